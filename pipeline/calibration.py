"""What this machine's processor attains, measured in seconds on the shapes of a model, so that a
prediction for a CPU stands on this CPU."""

import os
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F

from models.device import pick_decoder_dtype, pick_device, pick_dtype, threads
from models.vae_config import FullVAEConfig
from pipeline.bench.timing import stopwatch
from pipeline.prediction import Device, Model

# Ranks talk over gloo on the loopback device: assumed, as measured with pairs of processes.
LINK: Final = 1.2e9
EXCHANGE: Final = 3e-4
SAMPLE: Final = 2e11  # operations of a sample at most: larger maps are measured on a part


def cpu_rank(model: Model) -> Device:
    """One DiT rank of this processor: one thread, as they all run."""
    with threads(1), torch.inference_mode():
        return _rank(model, 1)


def cpu_worker(model: Model, workers: int) -> Device:
    """One of `workers` VAE workers, which share the cores."""
    count = max(1, len(os.sched_getaffinity(0)) // workers)
    with threads(count), torch.inference_mode():
        return _worker(model, count)


def _rank(model: Model, count: int) -> Device:
    """What a transformer's rank attains: its widths, its heads, its number format."""
    config, dtype = model.transformer, pick_dtype("auto", pick_device("cpu"))
    patches = (config.sample_height * config.sample_width) // config.patch_size**2
    tokens = config.max_text_seq_length + model.settings.latents * patches
    rows = min(tokens, int(SAMPLE / (8 * config.width**2)))
    seen = min(tokens, int((SAMPLE / (4 * config.width)) ** 0.5))
    x = torch.randn(rows, config.width, dtype=dtype)
    weight = torch.randn(4 * config.width, config.width, dtype=dtype)
    q = torch.randn(1, config.num_attention_heads, seen, config.attention_head_dim, dtype=dtype)
    return _device(
        f"this CPU, {count} threads, {dtype}".replace("torch.", ""),
        linear=_rate(lambda: F.linear(x, weight), 8.0 * rows * config.width**2),
        attention=_rate(
            lambda: F.scaled_dot_product_attention(q, q, q), 4.0 * seen**2 * config.width
        ),
        convolution=1.0,  # it has none
        bandwidth=_bandwidth(x),
    )


def _worker(model: Model, count: int) -> Device:
    """What a decoder's worker attains, on its widest maps."""
    full = isinstance(model.decoder, FullVAEConfig)
    dtype = (pick_dtype if full else pick_decoder_dtype)("auto", pick_device("cpu"))
    height, width = 8 * model.transformer.sample_height, 8 * model.transformer.sample_width
    config = model.decoder
    if isinstance(config, FullVAEConfig):
        wide, frames = config.block_out_channels[0], 6
        height = min(height, max(8, int(SAMPLE / (54 * wide**2 * 4 * width))))
        kernel = torch.randn(wide, wide, 3, 3, 3, dtype=dtype)
        x = torch.randn(1, wide, frames, height, width, dtype=dtype)
        work: Callable[[], object] = lambda: F.conv3d(x, kernel, padding=(0, 1, 1))  # noqa: E731
        operations = 54.0 * wide**2 * 4 * height * width
    else:
        wide, height, width = config.decoder_widths[1], height // 4, width // 4
        form = torch.channels_last
        kernel = torch.randn(wide, wide, 3, 3, dtype=dtype).contiguous(memory_format=form)
        x = torch.randn(2, wide, height, width, dtype=dtype).contiguous(memory_format=form)
        work = lambda: F.conv2d(x, kernel, padding=1)  # noqa: E731
        operations = 18.0 * wide**2 * 2 * height * width
    return _device(
        f"this CPU, {count} threads, {dtype}".replace("torch.", ""),
        linear=1.0,  # it has none
        attention=1.0,
        convolution=_rate(work, operations),
        bandwidth=_bandwidth(x),
    )


def _device(
    name: str, *, linear: float, attention: float, convolution: float, bandwidth: float
) -> Device:
    few = torch.ones(64)
    return Device(
        name=name,
        linear=linear,
        attention=attention,
        convolution=convolution,
        bandwidth=bandwidth,
        launch=stopwatch(lambda: [few + few for _ in range(100)], 5) / 1e5,
        link=LINK,
        exchange=EXCHANGE,
        memory=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        queued=False,
    )


def _rate(work: Callable[[], object], operations: float) -> float:
    """Operations a second."""
    return operations / (stopwatch(work, 5) / 1000)


def _bandwidth(x: torch.Tensor) -> float:
    """Bytes a second of an element-wise kernel that reads two tensors and writes one."""
    return 3.0 * x.numel() * x.element_size() / (stopwatch(lambda: x + x, 5) / 1000)

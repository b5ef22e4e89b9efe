"""What this machine's processor attains, measured in seconds on the shapes of a model, so that a
prediction for a CPU stands on this CPU."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F

from models.attention import self_attention
from models.device import host_memory, threads, use_threads
from models.engines.serve import decoder_threads
from models.parallel import SequenceGroup
from models.tae import TinyVAEConfig
from models.vae_config import FullVAEConfig
from pipeline.bench.processes import in_a_pair
from pipeline.bench.timing import stopwatch
from pipeline.prediction import Device, Model

FORMATS: Final = {2: torch.bfloat16, 4: torch.float32}  # by their size
SAMPLE: Final = 2e11  # operations of a sample at most: larger maps are measured on a part
ROUNDS: Final = 60  # exchanges of a pair, for each size
FEW, MANY = 2**10, 2**21  # numbers sent: what an exchange takes by itself, and by its bytes


class Talk(NamedTuple):
    """How two ranks on this machine talk: seconds of one exchange, bytes a second."""

    exchange: float
    link: float


NOBODY: Final = Talk(0.0, 1.0)  # of who has no peers


def cpu_talk() -> Talk:
    """Measured between two processes which compute in between, as ranks do: most of an exchange is
    waiting for the other to be awake."""
    few, many = in_a_pair(_exchanges)[0]
    sent = (MANY - FEW) * torch.float32.itemsize
    return Talk(few, sent / max(many - few, 1e-6))


def _exchanges(rank: int, method: str) -> list[float]:
    """Mean seconds of an exchange of FEW and of MANY numbers."""
    use_threads(1)
    group = SequenceGroup.join(rank, 2, init_method=method)
    between, means = torch.randn(300, 300), []
    for numbers in (FEW, MANY):
        x, seconds = torch.randn(2, numbers), 0.0
        for _ in range(ROUNDS):
            between @ between
            began = time.perf_counter()
            group.all_to_all(x, 0, 1)
            seconds += time.perf_counter() - began
        means.append(seconds / ROUNDS)
    group.close()
    return means


def cpu_rank(model: Model, talk: Talk = NOBODY) -> Device:
    """One DiT rank of this processor: one thread, as they all run."""
    with threads(1), torch.inference_mode():
        return _rank(model, 1, talk)


def cpu_worker(model: Model, workers: int, talk: Talk = NOBODY) -> Device:
    """One of `workers` VAE workers, with PyTorch."""
    small = isinstance(model.decoder, TinyVAEConfig) and not model.transformer.large
    count = decoder_threads(small=small, engine=None, workers=workers)
    with threads(count), torch.inference_mode():
        return _worker(model, count, talk)


def _rank(model: Model, count: int, talk: Talk) -> Device:
    """What a transformer's rank attains: its widths, its heads, its number format."""
    config, dtype = model.transformer, FORMATS[model.itemsize]
    patches = (config.sample_height * config.sample_width) // config.patch_size**2
    tokens = config.max_text_seq_length + model.settings.latents * patches
    rows = min(tokens, int(SAMPLE / (8 * config.width**2)))
    seen = min(tokens, int((SAMPLE / (4 * config.width)) ** 0.5))
    x = torch.randn(rows, config.width, dtype=dtype)
    weight = torch.randn(4 * config.width, config.width, dtype=dtype)
    q = torch.randn(1, config.num_attention_heads, seen, config.attention_head_dim, dtype=dtype)
    return _device(
        count,
        x,
        talk,
        linear=_rate(lambda: F.linear(x, weight), 8.0 * rows * config.width**2),
        attention=_rate(lambda: self_attention(q, q, q), 4.0 * seen**2 * config.width),
        convolution=1.0,  # it has none
    )


def _worker(model: Model, count: int, talk: Talk) -> Device:
    """What a decoder's worker attains, on its widest maps."""
    dtype = FORMATS[model.decoder_itemsize]
    height, width = 8 * model.transformer.sample_height, 8 * model.transformer.sample_width
    config = model.decoder
    if isinstance(config, FullVAEConfig):
        wide, frames = config.block_out_channels[0], 6
        height = min(height, max(8, int(SAMPLE / (54 * wide**2 * 4 * width))))
        form = torch.channels_last_3d
        kernel = torch.randn(wide, wide, 3, 3, 3, dtype=dtype).contiguous(memory_format=form)
        x = torch.randn(1, wide, frames, height, width, dtype=dtype).contiguous(memory_format=form)
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
        count,
        x,
        talk,
        linear=1.0,  # it has none
        attention=1.0,
        convolution=_rate(work, operations),
    )


def _device(
    count: int,
    x: torch.Tensor,
    talk: Talk,
    *,
    linear: float,
    attention: float,
    convolution: float,
) -> Device:
    """A processor of so many threads, and what it attains; x: what it works on."""
    few = torch.ones(64)
    return Device(
        name=f"this CPU, {count} threads, {str(x.dtype).removeprefix('torch.')}",
        linear=linear,
        attention=attention,
        convolution=convolution,
        bandwidth=_bandwidth(x),
        launch=stopwatch(lambda: [few + few for _ in range(100)], 5) / 1e5,
        link=talk.link,
        exchange=talk.exchange,
        memory=float(host_memory()),
        queued=False,
    )


def _rate(work: Callable[[], object], operations: float) -> float:
    """Operations a second."""
    return operations / (stopwatch(work, 5) / 1000)


def _bandwidth(x: torch.Tensor) -> float:
    """Bytes a second of an element-wise kernel that reads two tensors and writes one."""
    return 3.0 * x.numel() * x.element_size() / (stopwatch(lambda: x + x, 5) / 1000)

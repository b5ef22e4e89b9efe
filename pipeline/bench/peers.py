"""Our networks against diffusers': the same shapes, the same weights, the same threads, one run.

The transformer without control blocks against `CogVideoXTransformer3DModel`, as a stream calls it:
what is constant is not computed again. The decoder per latent against `AutoencoderKLCogVideoX`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor

from models.device import has_bfloat16, pick_device, use_threads
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from pipeline.bench.options import Options
from pipeline.bench.processes import MEGABYTE, in_a_process
from pipeline.bench.shapes import PUBLISHED, TINY, Shape, full_decoder, transformer
from pipeline.bench.table import table
from pipeline.bench.timing import samples

TARGETS: Final = {"step": 0.8, "decode": 0.8, "memory": 0.7}
BLOCKS: Final = 2  # of thirty, which are alike
PART: Final = (20, 30)  # height and width of the latents that the decoders get
LATENTS: Final = 4  # that the decoders get, two at a time
Result = tuple[Tensor, dict[str, float]]


def _diffusers() -> ModuleType:
    import diffusers  # of the tests, seconds to import: only where peers are measured

    return diffusers


def measure(options: Options) -> dict[str, Any]:
    """Ratios of time and peak memory, ours over theirs, and how far the results are apart."""
    small = options.shape == "tiny"
    shape = replace(TINY, transformer=_plain(TINY)) if small else _published()
    part = (4, 6) if small else PART
    figures: dict[str, Any] = {}
    for name, ours, theirs in (
        ("step", our_step, their_step),
        ("decode", our_decode, their_decode),
    ):
        one, mine = in_a_process(ours, shape, part)
        other, its = in_a_process(theirs, shape, part)
        error = float((one.float() - other.float()).norm() / other.float().norm())
        figures[name] = {
            "ours": mine,
            "theirs": its,
            "time": mine["ms"] / its["ms"],
            "memory": mine["mb"] / its["mb"] if its["mb"] else None,
            "error": error,
        }
    rows = [
        (name, f["ours"]["ms"], f["theirs"]["ms"], f["time"], f["ours"]["mb"], f["theirs"]["mb"])
        + (f["memory"], f["error"])
        for name, f in figures.items()
    ]
    titles = ("", "ours ms", "diffusers ms", "ratio", "ours MB", "diffusers MB", "ratio", "error")
    table(titles, rows)
    print(
        f"targets: step {TARGETS['step']}, decode {TARGETS['decode']} of the time, "
        f"{TARGETS['memory']} of the decoder's memory; {BLOCKS} of 30 blocks, "
        f"decoder on {part[0]} x {part[1]}"
    )
    return figures


def _published() -> Shape:
    return replace(PUBLISHED, transformer=replace(_plain(PUBLISHED), num_layers=BLOCKS))


def _plain(shape: Shape) -> TransformerConfig:
    """Without control blocks, which the other class does not have."""
    return replace(shape.transformer, control_start_layer=0, control_end_layer=0)


def _dtype() -> torch.dtype:
    return torch.bfloat16 if has_bfloat16(pick_device("cpu")) else torch.float32


def _inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [1, F, C, h, w], text [1, N_t, Dt] and the one timestep that both classes know."""
    config, draw = shape.transformer, torch.Generator().manual_seed(1)
    size = (1, 5, config.in_channels, config.sample_height, config.sample_width)
    latents = torch.randn(size, generator=draw).to(_dtype())
    text = torch.randn(1, config.max_text_seq_length, config.text_embed_dim, generator=draw)
    return latents, text.to(_dtype()), torch.tensor([499])


def our_step(shape: Shape, part: tuple[int, int]) -> Result:
    """A call from prepared parts, as in a stream."""
    model, (latents, text, time_) = _model(shape), _inputs(shape)
    with torch.inference_mode():
        rows, tokens = model.modulate(time_.expand(1, 5)), model.embed_text(text)
        return _timed(lambda: model.denoise(latents, tokens, rows, []), 3)


def their_step(shape: Shape, part: tuple[int, int]) -> Result:
    """The other class's only call, with our weights."""

    config, model = shape.transformer, _model(shape)
    names = (
        "num_attention_heads attention_head_dim in_channels out_channels num_layers time_embed_dim "
        "text_embed_dim attention_bias sample_width sample_height sample_frames patch_size "
        "temporal_compression_ratio max_text_seq_length norm_elementwise_affine norm_eps "
        "spatial_interpolation_scale temporal_interpolation_scale"
    )
    other = _diffusers().CogVideoXTransformer3DModel(
        **{name: getattr(config, name) for name in names.split()}
    )
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("control_")}
    del model
    other.load_state_dict(state, strict=False, assign=True)
    other = other.to(_dtype()).eval()
    latents, text, time_ = _inputs(shape)
    with torch.inference_mode():
        return _timed(lambda: other(latents, text, time_, return_dict=False)[0], 3)


def _model(shape: Shape) -> Transformer:
    use_threads()
    return transformer(shape, pick_device("cpu"), _dtype())


def _latents(shape: Shape, part: tuple[int, int]) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(1, LATENTS, 16, *part, generator=draw).to(_dtype())


def our_decode(shape: Shape, part: tuple[int, int]) -> Result:
    """Whole decode, two latents at a time; ms of one latent."""
    use_threads()
    vae = full_decoder(shape, pick_device("cpu"), _dtype())
    latents = _latents(shape, part)
    return _timed(lambda: vae.decode(latents), 2, LATENTS)


def their_decode(shape: Shape, part: tuple[int, int]) -> Result:
    """The other class's, with our weights."""

    use_threads()
    config, vae = shape.full, full_decoder(shape, pick_device("cpu"), _dtype())
    other = _diffusers().AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
    )
    other.load_state_dict(vae.state_dict(), assign=True)
    other = other.to(_dtype()).eval()
    latents = _latents(shape, part).transpose(1, 2)
    with torch.inference_mode():
        return _timed(lambda: other.decode(latents).sample.transpose(1, 2), 2, LATENTS)


def _timed(work: Callable[[], Tensor], times: int, units: int = 1) -> Result:
    """The result, median ms of a unit, and MB that the work took at most beside what was there."""
    before = _forget_peak()
    start = time.perf_counter()
    result = work()
    first = 1000 * (time.perf_counter() - start)
    timed = sorted(samples(work, times, warm=0)) if first < 60_000 else [first]
    return result, {"ms": timed[len(timed) // 2] / units, "mb": _resident("VmHWM") - before}


def _forget_peak() -> float:
    """Let the kernel count this process's peak anew, from what is resident now: in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> float:
    """A line of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / MEGABYTE

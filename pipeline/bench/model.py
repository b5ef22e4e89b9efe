"""Outer step and decode of one latent, per thread count. Baseline of the step: everything recomputed
in each step; then all engines side by side.

The step projects text, computes modulations and control keys once per prompt; a plain forward does
so every time.
"""

from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.controls import STRAIGHT_ON
from models.device import pick_device, synchronise, use_threads
from models.parts import Parts
from pipeline.bench import engines
from pipeline.bench.options import Options
from pipeline.bench.table import table
from pipeline.bench.timing import percentiles, samples

KINDS = ("step_ms", "recomputed_ms", "decode_ms")


def measure(options: Options) -> dict[str, Any]:
    """p50 and p95 of step, recomputed step and decode, for every thread count."""
    checkpoint = Checkpoint.open(options.model)
    device = pick_device()
    parts = Parts(checkpoint, device)
    figures = [
        _with_threads(parts, count)
        for count in (options.threads if device.type == "cpu" else options.threads[:1])
    ]
    titles = ("ms per latent", "step p50", "p95", "recomputed p50", "p95", "decode p50", "p95")
    rows = [
        (f"{row['threads']} threads", *(row[kind][p] for kind in KINDS for p in ("p50", "p95")))
        for row in figures
    ]
    table(titles, rows)
    size = (
        f"{checkpoint.width}x{checkpoint.height}, F = {checkpoint.streaming.latents}, {device.type}"
    )
    print(f"{checkpoint.name}: {size}; a latent lasts 250 ms")
    compared = engines.measure(checkpoint, device)
    if compared:
        engines.print_table(compared)
    return {
        "model": checkpoint.name,
        "device": device.type,
        "threads": figures,
        "engines": compared,
    }


def _with_threads(parts: Parts, count: int) -> dict[str, Any]:
    use_threads(count)
    checkpoint, device = parts.checkpoint, parts.device
    prompt = checkpoint.default_prompt
    world = parts.world()
    world.reset(42, prompt, checkpoint.start_latents(prompt))
    decoder = parts.decoder()
    labels = [STRAIGHT_ON] * world.settings.window_size
    latent = world.step(labels).latents[:1]
    plain = (
        world.state().latents[None].to(device, parts.dtype),
        torch.zeros(1, world.settings.latents, device=device),
        parts.encode([prompt]).to(device, parts.dtype),
        parts.controls[None, : world.settings.latents].to(device, parts.dtype),
    )

    def step() -> None:
        world.step(labels)
        synchronise(device)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(world.settings.inner_steps):
                world.transformer(*plain)
        synchronise(device)

    timed = (samples(step, 40), samples(forward, 20), samples(lambda: decoder.push(latent), 40))
    return {"threads": count, **dict(zip(KINDS, map(percentiles, timed), strict=True))}

"""The engines side by side, in one run on one thread: step and decode, their ratio to PyTorch in
float32, and how close their frames are to its."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from configs.choice import ENGINES
from models.checkpoint import Checkpoint
from models.device import threads
from models.engines.choose import measure as measure_engines
from models.engines.choose import unfit
from models.parts import Parts
from pipeline.bench.table import table

FIRST = ENGINES[0]  # what the others are compared with: torch-fp32
LABELS = ["D"] * 8 + ["DL"] * 8  # of the drive whose frames are compared


def measure(checkpoint: Checkpoint, device: torch.device) -> list[dict[str, Any]]:
    """One record an engine, in the order of ENGINES; those that cannot run here only say why.
    Nothing where the first cannot: a GPU has one engine."""
    reasons = {name: unfit(name, checkpoint, device) for name in ENGINES}
    if reasons[FIRST]:
        return []
    names = [name for name in ENGINES if not reasons[name]]
    timings = measure_engines(checkpoint, names)
    frames = _frames(checkpoint, names, device)
    records: list[dict[str, Any]] = []
    for name in ENGINES:
        if reasons[name]:
            records.append({"engine": name, "reason": reasons[name]})
            continue
        step, decode, first = timings[name].step, timings[name].decode, timings[FIRST]
        records.append(
            {
                "engine": name,
                "step_ms": step,
                "step_ratio": step / first.step,
                "decode_ms": decode,
                "decode_ratio": decode / first.decode,
                "psnr_db": _or_none(psnr(frames[name], frames[FIRST])),
            }
        )
    return records


def print_table(records: list[dict[str, Any]]) -> None:
    """Print them as a table, and below it what cannot run."""
    fields = ("step_ms", "step_ratio", "decode_ms", "decode_ratio", "psnr_db")
    titles = ("engine, 1 thread", "step ms", "of fp32", "decode ms", "of fp32", "PSNR dB")
    ran = [record for record in records if "reason" not in record]
    table(titles, [(record["engine"], *(record[field] for field in fields)) for record in ran])
    for record in records:
        if "reason" in record:
            print(f"{record['engine']}: {record['reason']}")


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """In dB, of frames uint8 of one shape; infinite where they are equal."""
    error = float(np.square(made.astype(np.float32) - wanted).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def _or_none(value: float) -> float | None:
    """JSON has no infinity."""
    return None if math.isinf(value) else value


def _frames(
    checkpoint: Checkpoint, names: list[str], device: torch.device
) -> dict[str, np.ndarray]:
    """The same latents, those of a drive stepped by the first engine, as each one decodes them."""
    prompt = checkpoint.default_prompt
    with threads(1):
        world = Parts(replace(checkpoint, engine=FIRST), device).world()
        world.reset(42, prompt, checkpoint.start_latents(prompt))
        window = world.settings.window_size
        latents = torch.cat([world.step([label] * window).latents for label in LABELS])
        return {
            name: Parts(replace(checkpoint, engine=name), device).decoder().push(latents)
            for name in names
        }

"""Time and peak memory of loading a full-shape transformer in two-byte storage (random weights, page
cache warm).

Baseline: the plain way, a float32 module filled from a state dict. Both in processes of their own.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from models.saving import save_tensors
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.transformer_folder import (
    empty_transformer,
    read_transformer,
    read_transformer_config,
)
from pipeline.bench.options import Options
from pipeline.bench.processes import in_a_process, peak_memory
from pipeline.bench.table import table

GIGABYTE: Final = 1e9
LOAD_ROOM: Final = 6.0 * GIGABYTE  # a full-shape two-byte transformer (4.0 GB) and some air
PLAIN_ROOM: Final = 15.0 * GIGABYTE  # memory for a float32 copy beside the file's


def measure(options: Options) -> dict[str, Any]:
    """Seconds and peak memory, ours and the plain way; skipped where there is no room."""
    folder = options.folder
    if not folder.is_dir():
        raise UserError(f"--folder {folder}: expected an existing folder")
    reason = lacking(folder)
    if reason:
        print(f"skipped: {reason}")
        return {"skipped": reason}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        size = in_a_process(write_full_shape, place)
        figures: dict[str, Any] = {
            "gigabytes": size / GIGABYTE,
            "ours": in_a_process(load_ours, place),
        }
        if available_memory() > PLAIN_ROOM:
            figures["plain"] = in_a_process(load_plain, place)
        else:
            left = available_memory() / GIGABYTE
            needs = f"{PLAIN_ROOM / GIGABYTE:.0f} GB are needed"
            print(f"baseline skipped: memory has {left:.1f} GB free, {needs}")
    names = {
        "ours": "memory-mapped, straight to bfloat16",
        "plain": "float32 module, state dict, then bfloat16",
    }
    rows = [(names[key], *figures[key].values()) for key in names if key in figures]
    table((f"{figures['gigabytes']:.2f} GB on disk", "seconds", "peak MB", "of it loaded MB"), rows)
    return figures


def lacking(folder: Path) -> str:
    """What there is too little of, in a line; "" where there is room."""
    free, memory = shutil.disk_usage(folder).free, available_memory()
    for what, has in (("disk", free), ("memory", memory)):
        if has < LOAD_ROOM:
            needs = f"{LOAD_ROOM / GIGABYTE:.1f} GB are needed"
            return f"{what} has {has / GIGABYTE:.1f} GB free, {needs}"
    return ""


def write_full_shape(place: str) -> int:
    """Write the published transformer's shapes with random two-byte weights; returns the file's
    bytes."""
    config = TransformerConfig(control_start_layer=15)
    tensors = {
        name: torch.empty(tensor.shape, dtype=torch.bfloat16).uniform_(-0.02, 0.02)
        for name, tensor in empty_transformer(config).state_dict().items()
    }
    (Path(place) / "config.json").write_text(config.to_json())
    file = Path(place) / "diffusion_pytorch_model.safetensors"
    save_tensors(file, tensors)
    return file.stat().st_size


def load_ours(place: str) -> dict[str, float]:
    """Load as every process of the project does."""
    before, start = peak_memory(), time.perf_counter()
    model = read_transformer(Path(place), torch.device("cpu"), torch.bfloat16)
    return _loaded(start, before, model.proj_out.weight.dtype == torch.bfloat16)


def load_plain(place: str) -> dict[str, float]:
    """Load the way a first draft would."""
    before, start = peak_memory(), time.perf_counter()
    model = Transformer(read_transformer_config(Path(place)))
    model.load_state_dict(load_file(Path(place) / "diffusion_pytorch_model.safetensors"))
    model.to(torch.bfloat16)
    return _loaded(start, before, model.proj_out.weight.dtype == torch.bfloat16)


def _loaded(start: float, before: float, right: bool) -> dict[str, float]:
    assert right, "the loaded model has another number format"
    peak = peak_memory()
    return {"seconds": time.perf_counter() - start, "peak_mb": peak, "loaded_mb": peak - before}


def available_memory() -> float:
    """Bytes that can be had without swapping."""
    return float(psutil.virtual_memory().available)

"""What int8 needs of a decoder: the largest input that reaches each of its convolutions, measured on
drives of the simulator, written beside the weights.

`python -m training.int8 models/tiny/stage3` measures for a weight folder as it is; the recipe's export
does the same. The weights themselves stay as they are: they are rounded when a graph is made.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from torch import Tensor

from configs.errors import UserError, one_line_errors
from configs.geometry import FRAMES_PER_LATENT
from models.checkpoint import read_autoencoder
from models.engines.decoder import largest_inputs
from models.engines.int8 import INT8_FILE
from models.engines.openvino import present
from models.saving import save_tensors
from models.tae import TinyVAE
from models.weights import WeightFiles
from training.autoencoder import to_video
from training.scene import BIOMES, COLOURS, TIMES, Scene
from training.simulator import Simulator
from training.view import View

SEED = 6_000_000  # of the first drive; no other part of the recipe begins there
SCRIPT = ["D"] * 4 + ["DL"] * 3 + ["DR"] * 3 + ["B"] * 2  # every drive: twelve latents


def write(folder: Path) -> Path:
    """Measure the decoder of a weight folder in every biome and time of day; returns the file.
    Raises UserError where OpenVINO, whose graph is looked into, is not installed."""
    if not present():
        raise UserError("int8: measuring needs openvino; pip install -e '.[openvino]'")
    vae = read_autoencoder(folder / "vae", torch.device("cpu"), torch.float32)
    if not isinstance(vae, TinyVAE):
        raise UserError(f"{folder}: expected a tiny autoencoder; the full one has no int8")
    scenes = itertools.product(BIOMES, TIMES)
    streams = [drive_latents(vae, k, *scene) for k, scene in enumerate(scenes)]
    ranges = largest_inputs(vae, torch.stack(streams))
    made_for = WeightFiles.open(folder / "vae").fingerprint()
    tensors = {name: torch.tensor([high]) for name, high in ranges.items()}
    save_tensors(folder / INT8_FILE, tensors, {"decoder": made_for})
    return folder / INT8_FILE


def write_if_possible(folder: Path) -> None:
    """`write`, or a line that says why not."""
    if present():
        write(folder)
    else:
        print("int8: not measured, openvino is not installed (python -m training.int8 FOLDER)")


@torch.no_grad()
def drive_latents(vae: TinyVAE, number: int, biome: str, time: str) -> Tensor:
    """Scaled latents [n, C, h, w] of one drive."""
    scene, view = Scene(biome, time, COLOURS[number % len(COLOURS)]), View(vae.config.patch_size)
    drive = Simulator(scene, SEED + number, view)
    frames = [drive.frames(label, FRAMES_PER_LATENT) for label in SCRIPT]
    video = torch.cat([to_video(part) for part in frames])
    return vae.encode(video[None])[0] * vae.scaling_factor


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.int8", description=__doc__)
    parser.add_argument("folder", type=Path, help="weight folder with a tiny vae/")
    print(write(parser.parse_args(arguments).folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

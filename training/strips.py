"""Pictures of a trained world, in strips, for the documentation: `python -m training.strips
models/tiny docs/pictures`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from configs.errors import one_line_errors
from configs.geometry import FPS, FRAMES_PER_LATENT
from models.checkpoint import Checkpoint
from models.controls import random_signal
from models.device import use_threads
from models.engines.serve import served_stream
from training.autoencoder import to_video
from training.captions import PRESET_SCENES, PRESETS
from training.clips import Recording, render_clip
from training.evaluation.dream import Dream
from training.evaluation.horizon import MINUTE
from training.scene import BIOMES, COLOURS, TIMES, Scene
from training.simulator import Frame, Simulator
from training.view import View

HORIZON_MINUTES = 30


def _save(rows: Sequence[Sequence[Frame]], path: Path, smaller: int = 1) -> None:
    """A picture of pictures; ``smaller``: by which factor, of many large ones."""
    gap = np.full((2, 1, 3), 255, np.uint8)
    lines = []
    for row in rows:
        cells = [np.pad(frame, ((0, 2), (0, 2), (0, 0)), constant_values=255) for frame in row]
        lines.append(np.concatenate(cells, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.concatenate(lines)[: -len(gap)])
    picture.reduce(smaller).quantize(256).save(path)


def render_strips(dream: Dream, folder: Path) -> None:
    """The strips of docs/training.md: simulator, reconstruction, turns, worlds, prompt and horizon,
    all .png."""
    _save(_simulated(dream.view), folder / "simulator.png")
    _save(_reconstructions(dream), folder / "reconstruction.png")
    _save(_turns(dream), folder / "turns.png")
    _save(_worlds(dream), folder / "worlds.png", smaller=dream.view.scale)
    _save(_prompt_change(dream, first=0, second=8), folder / "prompt.png")
    _save(_first_and_last_minute(dream, HORIZON_MINUTES), folder / "horizon.png")


def _turns(dream: Dream) -> list[list[Frame]]:
    """The same moment under left, straight and right: a row each, 4 s."""
    desert = Scene("desert", "day", "red")
    return [list(dream.film(desert, 3_100_000, [label] * 16)[3::8]) for label in ("DL", "D", "DR")]


def _worlds(dream: Dream) -> list[list[Frame]]:
    """Every preset prompt, 12 s of straight, left, straight, right, straight."""
    script = ["D"] * 8 + ["DL"] * 10 + ["D"] * 6 + ["DR"] * 10 + ["D"] * 14
    rows = []
    for k, prompt in enumerate(tqdm(PRESETS, desc="worlds", unit="prompt")):
        dream.start_with(prompt, k)
        rows.append(list(dream.drive(script)[3 :: 6 * FRAMES_PER_LATENT]))
    return rows


def _prompt_change(dream: Dream, first: int, second: int) -> list[list[Frame]]:
    """One second of a preset, then another one's prompt."""
    dream.start_with(PRESETS[first], 1)
    before = dream.drive(["D"] * 4)
    dream.world.set_prompt(dream.embed(PRESETS[second]))
    return [[*before[3::8], *dream.drive(["D"] * 16)[3::8]]]


def _first_and_last_minute(dream: Dream, minutes: int) -> list[list[Frame]]:
    """Two rows: a frame of every eight seconds in the first minute of a long random drive, and in
    the last one."""
    labels = random_signal(minutes * MINUTE, 3)
    dream.start_with(PRESETS[0], 3)
    first = dream.drive(labels[:MINUTE])
    for label in tqdm(labels[MINUTE:-MINUTE], desc=f"{minutes} minutes", unit="latent"):
        dream.world.step([label])
    return [list(frames[3 :: 8 * FPS]) for frames in (first, dream.drive(labels[-MINUTE:]))]


def _simulated(view: View) -> list[list[Frame]]:
    """Every biome and time of day in the simulator itself: straight, right, straight, left,
    reverse."""
    script = ["D"] * 6 + ["DR"] * 6 + ["D"] * 4 + ["DL"] * 6 + ["B"] * 10
    rows = []
    for k, (biome, time) in enumerate(itertools.product(BIOMES, TIMES)):
        drive = Simulator(Scene(biome, time, COLOURS[k % len(COLOURS)]), k, view)
        rows.append([drive.frames(label)[-1] for label in script][3::4])
    return rows


def _reconstructions(dream: Dream) -> list[list[Frame]]:
    rows = []
    for k in range(len(PRESET_SCENES) // 2):
        frames = render_clip(4_100_000 + k, Recording(12, dream.view)).frames
        made = served_stream(dream.vae).push(
            dream.vae.encode(to_video(frames)[None])[0].detach() * dream.vae.scaling_factor
        )
        rows += [list(frames[11::9]), list(made[11::9])]
    return rows


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(prog="python -m training.strips", description=__doc__)
    made.add_argument("folder", type=Path, help="holds stage4, as models/tiny does")
    made.add_argument("pictures", type=Path, help="the folder to write into")
    made.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
    chosen = made.parse_args(arguments)
    use_threads(chosen.threads)
    render_strips(Dream(Checkpoint.open(chosen.folder / "stage4")), chosen.pictures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Things that come near and pass: counted in frames, of a dream and of the simulator alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from configs.geometry import FPS
from training.evaluation.ground import Share, fitted_reader
from training.evaluation.held_out import Film, Place, simulated
from training.view import View

NEAR = (9.0, 14.0)  # metres ahead: things whose foot stands there are near
COMES, GOES = 0.06, 0.02  # shares of the columns of a half of the picture where a thing is near


def passed(things: Share) -> int:
    """How many things come near and pass on the left and on the right, in shares [n, H - horizon, W]
    of frames in a row."""
    view = View(things.shape[-1] // View().width)
    depth = view.depth()[:, 0]
    near = (things[:, (depth >= NEAR[0]) & (depth <= NEAR[1])] > 0.5).any(1)
    return sum(_rises(half.mean(1)) for half in np.split(near, 2, axis=1))


def _rises(cover: npt.NDArray[np.floating]) -> int:
    """How often a cover passes COMES after it was below GOES."""
    count, there = 0, bool(cover[0] > GOES)
    for value in cover:
        if not there and value > COMES:
            count, there = count + 1, True
        elif there and value < GOES:
            there = False
    return count


def passing_figures(film: Film, places: list[Place], labels: list[str]) -> dict[str, float]:
    """Things a minute that come near and pass, and that over the simulator's."""
    dreamed, true, frames = 0, 0, 0
    for scene, seed in tqdm(places, desc="passing", unit="scene"):
        shown = film(scene, seed, labels)
        view = View.of(shown)
        reader = fitted_reader(scene.biome, scene.time, view)
        dreamed += passed(reader.read(shown)[1])
        true += passed(reader.read(simulated(scene, seed, labels, view=view))[1])
        frames += len(shown)
    minutes = frames / (60 * FPS)
    return {
        "passing_a_minute": dreamed / minutes,
        "passing_a_minute_simulator": true / minutes,
        "passing": dreamed / max(true, 1),
    }

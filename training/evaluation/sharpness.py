"""Edges: how much of the simulator's contrast from pixel to pixel a picture of it keeps."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from training.evaluation.held_out import Film, Place, simulated
from training.simulator import Frame
from training.view import View


def edges(frames: Frame) -> float:
    """Mean brightness gradient (steps of 255 a pixel, rows and columns) of the ground and the near
    things of frames [n, H, W, 3]; the sky and the car do not count."""
    view = View.of(frames)
    light = frames[:, view.horizon :].astype(np.float32).mean(-1)
    across, down = np.abs(np.diff(light, axis=2)), np.abs(np.diff(light, axis=1))
    mask = view.ground()
    beside, below = mask[:, 1:] & mask[:, :-1], mask[1:] & mask[:-1]
    return float(across[:, beside].mean() + down[:, below].mean())


def edge_ratios(film: Film, places: list[Place], labels: list[str]) -> dict[str, float]:
    """Edges over those of the simulator under the same labels: the mean of all places, the least
    of any biome and time of day, and each of these."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for scene, seed in places:
        shown = film(scene, seed, labels)
        ratio = edges(shown) / edges(simulated(scene, seed, labels, view=View.of(shown)))
        ratios[f"edges_{scene.biome}"].append(ratio)
        ratios[f"edges_{scene.time}"].append(ratio)
    means = {name: float(np.mean(found)) for name, found in sorted(ratios.items())}
    every = [ratio for name, found in ratios.items() for ratio in found]
    return {"edges": float(np.mean(every)), "edges_least": min(means.values()), **means}

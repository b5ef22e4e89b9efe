"""Who holds the keys while clips are recorded: a lively driver, and one who follows the road."""

from __future__ import annotations

import numpy as np

from configs.geometry import FRAMES_PER_LATENT
from training.roads import WRAP, road_distance
from training.simulator import Car


def random_labels(rng: np.random.Generator, count: int) -> list[str]:
    """Labels of a lively driver, one per latent: runs of 1 to 8; ahead, straight or turning, in two
    runs of three."""
    labels: list[str] = []
    while len(labels) < count:
        draw = rng.random()
        if draw < 0.34:
            label = str(
                rng.choice(
                    ["B", "N", "BL", "BR", "NL", "NR"], p=[0.36, 0.24, 0.14, 0.14, 0.06, 0.06]
                )
            )
        elif draw < 0.60:
            label = "D"
        else:
            label = "DL" if rng.random() < 0.5 else "DR"
        labels += [label] * int(rng.integers(1, 9))
    return labels[:count]


def road_label(car: Car, biome: str) -> str:
    """The label, of D, DL and DR, after which the next one and a half seconds stay nearest to a
    road."""

    def metres_off(label: str) -> float:
        moved, places = car, []
        for frame in range(24):
            moved = moved.moved(label if frame < FRAMES_PER_LATENT else "D")
            places.append((moved.x % WRAP, moved.y % WRAP))
        x, y = np.array(places, np.float32).T
        return float(road_distance(biome, x, y)[0].sum())

    return min(("D", "DL", "DR"), key=metres_off)

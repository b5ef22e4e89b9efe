"""Where the roads of the driving world run: two families of winding lines, straight in the city."""

from __future__ import annotations

import numpy as np

from training.scenery import Array

ROAD_HALF_WIDTH = {"desert": 3.4, "meadow": 3.2, "snow": 3.2, "city": 4.6, "forest": 3.2}
ROAD_SPACING = 64.0  # metres; divides the 1024 m after which ground coordinates wrap
WRAP = 1024.0


def road_distance(biome: str, x: Array, y: Array) -> tuple[Array, Array]:
    """(metres to the nearest road's middle, metres along it) at points given modulo 1024 m."""
    bend = np.float32(0.0 if biome == "city" else 14.0)
    k = np.float32(2 * np.pi / 256)
    u = x + bend * np.sin(y * k)
    v = y + bend * np.sin(x * k)
    du = np.abs((u % ROAD_SPACING) - ROAD_SPACING / 2)
    dv = np.abs((v % (2 * ROAD_SPACING)) - ROAD_SPACING)
    return np.minimum(du, dv), np.where(du < dv, y, x)


def nearest_road(biome: str, x: float, y: float) -> float:
    """Metres from one place to the nearest road's middle."""
    at = (np.array([value % WRAP], np.float32) for value in (x, y))
    return float(road_distance(biome, *at)[0][0])

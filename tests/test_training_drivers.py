"""Drivers: a lively one who uses every label, and one who follows the road."""

import numpy as np
import pytest

from models.controls import LABELS
from training.drivers import random_labels, road_label
from training.roads import ROAD_HALF_WIDTH, WRAP, road_distance
from training.scene import BIOMES, Scene
from training.simulator import Simulator


def test_a_lively_driver_uses_every_label_in_runs() -> None:
    labels = random_labels(np.random.default_rng(3), 4000)
    assert len(labels) == 4000 and set(labels) == set(LABELS)
    changes = sum(a != b for a, b in zip(labels, labels[1:], strict=False))
    assert 3 < len(labels) / changes < 7
    assert np.mean([label[0] == "D" for label in labels]) > 0.5


@pytest.mark.parametrize("biome", BIOMES)
def test_whoever_follows_the_road_stays_on_it(biome: str) -> None:
    drive, off = Simulator(Scene(biome, "day", "red"), 12), []
    for _ in range(80):
        label = road_label(drive.car, biome)
        for _ in range(4):
            drive.car = drive.car.moved(label)
        x, y = (np.array([v % WRAP], np.float32) for v in (drive.car.x, drive.car.y))
        off.append(float(road_distance(biome, x, y)[0][0]))
    assert np.mean(np.array(off[8:]) < ROAD_HALF_WIDTH[biome]) > 0.9

"""A faded picture is told from another place."""

import numpy as np

from training.evaluation.held_out import simulated
from training.evaluation.look import Look
from training.evaluation.probe import fitted_probe
from training.scene import Scene


def test_distance_of_looks_knows_a_faded_picture_from_another_place() -> None:
    probe, _ = fitted_probe(clips=20)
    here, there = (simulated(Scene("desert", "day", "red"), seed, ["D"] * 8) for seed in (5, 55))
    look = Look.of(here, probe)
    assert set(look.distance(look).values()) == {0.0}
    elsewhere = look.distance(Look.of(there, probe))
    faded = look.distance(Look.of((here * 0.3 + 120).astype(np.uint8), probe))
    assert all(faded[name] > elsewhere[name] for name in elsewhere)

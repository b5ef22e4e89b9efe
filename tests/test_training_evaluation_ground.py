"""Roads and things are read right from simulator frames that the reader has not seen."""

import numpy as np
import pytest

from tests.blur import blurred
from training.drivers import road_label
from training.evaluation.ground import fitted_reader
from training.scene import Scene
from training.simulator import Simulator
from training.view import LARGE, SMALL, View, averaged


@pytest.mark.parametrize(
    ("biome", "time", "view"),
    [("snow", "night", SMALL), pytest.param("meadow", "day", LARGE, marks=pytest.mark.soak)],
)
def test_layout_is_read_from_sharp_and_from_soft_frames(biome: str, time: str, view: View) -> None:
    frames, layouts = [], []
    for seed in range(3_000_500, 3_000_503):
        drive = Simulator(Scene(biome, time, "red"), seed, view)
        for k in range(8):
            drive.skip(road_label(drive.car, biome) if k % 2 else "DL", 24)
            frames.append(drive.frame("D"))
            layouts.append(
                [averaged(x[None], view.scale)[0] for x in drive.painter.layout(drive.car)]
            )
    reader = fitted_reader(biome, time, view)
    for shown in (np.stack(frames), blurred(np.stack(frames))):
        for found, wanted in zip(reader.read(shown), zip(*layouts, strict=True), strict=True):
            seen, there = found > 0.5, np.stack(wanted) > 0.5
            there &= (found > 0).any(0)  # nothing is read where the car is
            assert (seen & there).sum() > 0.6 * (seen | there).sum()

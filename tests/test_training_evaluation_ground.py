"""Roads and things are read right from simulator frames that the reader has not seen."""

import numpy as np
import pytest

from tests.blur import blurred
from training.drivers import road_label
from training.evaluation.ground import fitted_reader
from training.scene import Scene
from training.simulator import Drive


@pytest.mark.parametrize(("biome", "time"), [("snow", "night")])
def test_layout_is_read_from_sharp_and_from_soft_frames(biome: str, time: str) -> None:
    frames, layouts = [], []
    for seed in range(3_000_500, 3_000_503):
        drive = Drive(Scene(biome, time, "red"), seed)
        for k in range(8):
            drive.skip(road_label(drive.car, biome) if k % 2 else "DL", 24)
            frames.append(drive.frame("D"))
            layouts.append(drive.painter.layout(drive.car))
    reader = fitted_reader(biome, time)
    for shown in (np.stack(frames), blurred(np.stack(frames))):
        for found, wanted in zip(reader.read(shown), zip(*layouts, strict=True), strict=True):
            seen, there = found > 0.5, np.stack(wanted) > 0.5
            there &= (found > 0).any(0)  # nothing is read where the car is
            assert (seen & there).sum() > 0.6 * (seen | there).sum()

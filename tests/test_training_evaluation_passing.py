"""Things that come near and pass are counted as the map has them."""

import numpy as np

from training.evaluation.ground import fitted_reader
from training.evaluation.held_out import simulated
from training.evaluation.passing import passed, passing_figures
from training.scene import Scene
from training.simulator import Simulator

FOREST = Scene("forest", "day", "red")


def test_one_thing_on_each_side_is_two() -> None:
    things = np.zeros((30, 56, 144), np.float32)
    things[5:10, :30, 100:130] = 1
    things[15:22, :30, 10:40] = 1
    assert passed(things) == 2
    assert passed(things[12:14]) == 0
    assert passed(things[7:]) == 1, "what is there from the beginning has not come"


def test_what_is_read_is_what_the_map_says() -> None:
    reader, read, true = fitted_reader("forest", "day"), 0, 0
    for seed in (3_000_700, 3_000_701, 3_000_702):
        drive, frames, layouts = Simulator(FOREST, seed), [], []
        for label in ["D"] * 10 + ["DL"] * 4 + ["D"] * 10:
            for _ in range(4):
                frames.append(drive.frame(label))
                layouts.append(drive.painter.layout(drive.car)[1])
        read += passed(reader.read(np.stack(frames))[1])
        true += passed(np.stack(layouts))
    assert true >= 10
    assert 0.75 < read / true < 1.3


def test_the_simulator_is_itself_and_standing_still_nothing_passes() -> None:
    places = [(FOREST, 3_000_700)]
    assert passing_figures(simulated, places, ["D"] * 24)["passing"] == 1.0
    assert passing_figures(simulated, places, ["N"] * 24)["passing_a_minute"] < 20

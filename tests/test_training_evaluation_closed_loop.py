"""The driver who sees only frames holds the simulator's road, where another one does not; the judge
who sees only frames agrees with the map."""

from collections.abc import Callable

import numpy as np
import pytest

from training.evaluation import closed_loop
from training.evaluation.closed_loop import Driver, held, on_road, starts, truly_on_road
from training.evaluation.ground import fitted_reader
from training.evaluation.held_out import WARM, Place
from training.simulator import Frame, Simulator

BIOME, TIME = "meadow", "day"  # one reader has to be fitted, not fifteen


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return [place for place in starts(60) if (place[0].biome, place[0].time) == (BIOME, TIME)]


def at(place: Place) -> Simulator:
    drive = Simulator(*place)
    drive.skip("D", WARM * 4)
    return drive


def judge_of(drive: Simulator) -> Callable[[Frame], bool]:
    return lambda frame: truly_on_road(drive)


def test_starts_are_on_the_road_and_differ(places: list[Place]) -> None:
    assert len(places) == len(set(places)) >= 3
    assert all(truly_on_road(at(place)) for place in places)


@pytest.mark.soak
def test_the_driver_holds_the_road_by_sight(places: list[Place]) -> None:
    latents = 60
    seen = [closed_loop.held_in_simulator(place, latents) for place in places[:3]]
    assert seen == [latents] * len(seen)
    blind = []
    for place in places[:3]:
        drive = at(place)
        driver = Driver(fitted_reader(BIOME, TIME))
        driver.label = lambda frame: "D"  # type: ignore[method-assign]
        blind.append(held(driver, drive.frames, judge_of(drive), latents))
    assert min(blind) < latents


def test_the_judge_agrees_with_the_map(places: list[Place]) -> None:
    reader, agreed = fitted_reader(BIOME, TIME), []
    for place in places[:3]:
        drive = at(place)
        for label in ["D"] * 3 + ["DL"] * 3 + ["D"] * 6:
            frame: Frame = drive.frames(label)[-1]
            agreed.append(on_road(reader, frame) == truly_on_road(drive))
    assert np.mean(agreed) > 0.85

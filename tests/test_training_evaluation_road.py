"""A road is in sight where the map has one, and nowhere else."""

from collections.abc import Sequence

import numpy as np
import pytest

from training import camera
from training.evaluation import road
from training.evaluation.held_out import simulated
from training.scene import Scene
from training.simulator import Frame, Simulator

MEADOW = Scene("meadow", "day", "red")


def test_the_share_is_read_as_it_is() -> None:
    shares, true = [], []
    for seed in range(3_000_600, 3_000_606):
        drive = Simulator(MEADOW, seed)
        for label in ("D", "DL", "DL", "D"):
            drive.skip(label, 16)
            frame = drive.frame(label)
            found, _ = road.fitted_reader("meadow", "day").read(frame[None])
            shares.append(road.road_share(found)[0])
            true.append(road.road_share(drive.painter.layout(drive.car)[0][None])[0])
    agreed = (np.array(shares) > road.IN_SIGHT) == (np.array(true) > road.IN_SIGHT)
    assert agreed.mean() > 0.9
    assert np.corrcoef(shares, true)[0, 1] > 0.9


def test_a_driver_who_follows_keeps_it_in_sight_and_the_simulator_is_itself() -> None:
    places = [(MEADOW, 3_000_610), (MEADOW, 3_000_611)]
    figures = road.road_figures(simulated, places, latents=16)
    assert figures["road_straight"] == figures["road_random"] == figures["road_followed"] == 1.0
    assert figures["road_followed_simulator"] > 0.9


def test_a_world_without_roads_is_found_out() -> None:
    def bare(scene: Scene, seed: int, labels: Sequence[str]) -> Frame:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(camera, "ROAD_HALF_WIDTH", {scene.biome: -20.0})
            return simulated(scene, seed, labels)

    figures = road.road_figures(bare, [(MEADOW, 3_000_610)], latents=8)
    assert figures["road_followed"] < 0.3 and figures["road_followed_simulator"] > 0.9


@pytest.mark.parametrize("scale", [1, 2])
def test_the_share_does_not_depend_on_the_size(scale: int) -> None:
    half = np.zeros((1, 56 * scale, 144 * scale), np.float32)
    half[..., : 72 * scale] = 1
    assert road.road_share(half)[0] == pytest.approx(0.5, abs=0.01)

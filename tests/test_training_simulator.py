"""The simulator: the same from the same seed, and steered the right way by all nine labels."""

import math

import numpy as np
import pytest

from models.controls import LABELS
from training.drivers import random_labels
from training.roads import ROAD_HALF_WIDTH, nearest_road
from training.scene import BIOMES, COLOURS, TIMES, Scene
from training.simulator import SPEED, YAW_RATE, Car, Simulator
from training.view import LARGE, SMALL

DESERT = Scene("desert", "day", "red")


def driven(label: str, seconds: float = 3.0) -> Car:
    car = Car(0.0, 0.0, 0.0)
    for _ in range(int(seconds * 16)):
        car = car.moved(label)
    return car


def test_same_seed_same_frames() -> None:
    labels = random_labels(np.random.default_rng(1), 3)
    drives = [Simulator(DESERT, 5), Simulator(DESERT, 5), Simulator(DESERT, 6)]
    films = [np.concatenate([drive.frames(label) for label in labels]) for drive in drives]
    assert films[0].shape == (12, 96, 144, 3)
    assert films[0].tobytes() == films[1].tobytes()
    assert films[0].tobytes() != films[2].tobytes()


@pytest.mark.parametrize("label", LABELS)
def test_every_label_has_its_speed_and_turn(label: str) -> None:
    car = driven(label)
    turn = {"": 0, "L": 1, "R": -1}[label[1:]]
    assert car.speed == pytest.approx(SPEED[label[0]], abs=0.1)
    assert car.steering == pytest.approx(turn, abs=1e-6)
    direction = {"D": 1, "B": -1, "N": 0}[
        label[0]
    ]  # wheels to the left turn a reversing car to the right
    assert np.sign(round(car.yaw, 2)) == turn * direction


def test_turning_reaches_its_rate_quickly_and_moves_the_car_left() -> None:
    car = Car(0.0, 0.0, 0.0)
    for _ in range(4):
        car = car.moved("DL")
    assert car.yaw > 0.9 * YAW_RATE
    assert driven("DL", 1.0).y > 0 > driven("DR", 1.0).y


def test_the_panorama_moves_against_the_turn() -> None:
    def centre_of_sun(drive: Simulator) -> float:
        sky = drive.frame("D")[:20].astype(int)
        return float(np.argwhere(sky.sum(-1) > 735)[:, 1].mean())

    painter = Simulator(DESERT, 3).painter
    sun = (
        int(painter.panorama[:20].sum(-1).max(0).argmax()) / painter.panorama.shape[1] * 2 * math.pi
    )
    ahead, left = Simulator(DESERT, 3), Simulator(DESERT, 3)
    ahead.car, left.car = Car(0, 0, sun), Car(0, 0, sun + 0.1)
    assert centre_of_sun(left) > centre_of_sun(ahead) + 5


@pytest.mark.parametrize("biome", BIOMES)
def test_every_scene_draws_and_differs(biome: str) -> None:
    pictures = {(t, c): Simulator(Scene(biome, t, c), 9).frame("D") for t in TIMES for c in COLOURS}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(TIMES) * len(COLOURS)
    assert all(picture.std() > 8 for picture in pictures.values())


def test_a_change_of_scene_is_gradual_and_complete() -> None:
    drive, night = Simulator(DESERT, 4), Simulator(Scene("snow", "night", "red"), 4)
    drive.change(Scene("snow", "night", "red"))
    film = drive.frames("D", 20).astype(int)
    steps = np.abs(np.diff(film, axis=0)).mean((1, 2, 3))
    assert steps.max() < 30
    night.car = drive.car
    np.testing.assert_array_equal(drive.frame("D"), night.frame("D"))


def test_the_layout_of_a_picture_is_what_it_shows() -> None:
    drive = Simulator(Scene("meadow", "day", "red"), 3)
    drive.skip("D", 20)
    drive.frame("D")
    road, things = drive.painter.layout(drive.car)
    assert road.shape == things.shape == (56, 144)
    assert 0.02 < road.mean() < 0.7 and 0 < things.mean() < 0.6
    assert float((road + things).max()) <= 1.0 + 1e-6
    picture = drive.painter.draw(drive.car)
    drive.painter._reach = 0.0  # nothing stands in sight
    bare = drive.painter.draw(drive.car)
    changed = np.abs(picture - bare).max(-1)[40:] > 1e-6
    assert changed[things > 0.01].mean() > 0.98 and not changed[things == 0].any()


def test_the_large_world_keeps_who_drives_straight_on_to_the_road() -> None:
    shares = {}
    for view in (SMALL, LARGE):
        on_road = []
        for seed in range(10):
            drive = Simulator(Scene(BIOMES[seed % 5], "day", "red"), seed, view)
            for _ in range(120):
                drive.skip("D")
                half = ROAD_HALF_WIDTH[drive.scene.biome]
                on_road.append(nearest_road(drive.scene.biome, drive.car.x, drive.car.y) < half)
        shares[view] = np.mean(on_road)
    assert shares[LARGE] > 0.6 > 0.5 > shares[SMALL]


def test_the_road_pulls_gently_and_only_straight_on() -> None:
    for seed in range(6):
        drive = Simulator(DESERT, seed, LARGE)
        for _ in range(80):
            drive.skip("D", 1)
            assert abs(drive.car.yaw) <= 0.111
        turned, free = Simulator(DESERT, seed, LARGE), Simulator(DESERT, seed, SMALL)
        turned.car = free.car
        turned.skip("DL", 8)
        free.skip("DL", 8)
        assert turned.car == free.car

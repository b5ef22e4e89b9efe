"""Turn rate and speed are read right from simulator frames."""

import numpy as np
import pytest

from training.evaluation import motion
from training.evaluation.held_out import simulated
from training.scene import Scene
from training.simulator import Car, Simulator
from training.view import LARGE, SMALL, View

SCENES = [
    Scene("desert", "day", "red"),
    Scene("snow", "night", "blue"),
    Scene("city", "sunset", "white"),
]


@pytest.mark.parametrize(
    ("scene", "view"),
    [*((scene, SMALL) for scene in SCENES), (SCENES[0], LARGE)],
    ids=["desert", "snow", "city", "large desert"],
)
@pytest.mark.parametrize(
    ("label", "yaw", "gear"), [("D", 0, "D"), ("DL", 1, "D"), ("DR", -1, "D"), ("B", 0, "B")]
)
def test_motion_is_read_from_simulator_frames(
    scene: Scene, view: View, label: str, yaw: int, gear: str
) -> None:
    found_yaw, found_speed = motion.at_end(simulated(scene, 77, [label] * 8, warm=2, view=view))
    assert motion.yaw_class(found_yaw) == yaw
    assert motion.speed_class(found_speed) == gear


def test_a_standing_car_is_read_as_standing() -> None:
    _, speed = motion.at_end(simulated(SCENES[0], 77, ["N"] * 12, warm=2))
    assert motion.speed_class(speed) == "N"


def test_panorama_shift_is_exact_to_a_fraction() -> None:
    drive = Simulator(SCENES[0], 3)
    first = drive.painter.draw(Car(0, 0, 1.0))
    second = drive.painter.draw(Car(0, 0, 1.0 + 5.5 / 108))
    before, after = ((image * 255).astype(np.uint8) for image in (first, second))
    # 5.5 pixels on the axis, more beside it
    assert motion.panorama_shift(before, after, reach=12) == pytest.approx(5.9, abs=0.7)

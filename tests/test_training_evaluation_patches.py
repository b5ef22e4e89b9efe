"""Patch distance: nothing to itself, more to a softer or another scene than to another place."""

import numpy as np
import pytest
import torch

from tests.blur import blurred
from training.evaluation.held_out import simulated
from training.evaluation.patches import patch_distance, pyramid
from training.scene import Scene
from training.simulator import Frame

CITY = Scene("city", "day", "red")
LABELS = ["D"] * 8 + ["DL"] * 8


@pytest.fixture(scope="module")
def here() -> Frame:
    return simulated(CITY, 3_000_001, LABELS)


def test_the_same_frames_are_no_distance_apart(here: Frame) -> None:
    assert patch_distance(here, here) == 0.0
    assert patch_distance(here, blurred(here)) == patch_distance(here, blurred(here)) > 0


def test_blur_and_another_scene_are_further_than_another_place(here: Frame) -> None:
    elsewhere = simulated(CITY, 3_000_055, LABELS)
    floor = patch_distance(elsewhere, here)
    assert patch_distance(blurred(elsewhere, 7), here) > 1.1 * floor
    assert patch_distance(simulated(Scene("snow", "night", "red"), 3_000_055, LABELS), here) > floor


def test_a_pyramid_adds_up_to_the_picture(here: Frame) -> None:
    finest, middle, coarsest = pyramid(here[:2])
    up = torch.nn.functional.interpolate(coarsest, size=middle.shape[-2:], mode="bilinear") + middle
    up = torch.nn.functional.interpolate(up, size=finest.shape[-2:], mode="bilinear") + finest
    wanted = here[:2].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(up.movedim(1, -1).numpy(), wanted, atol=1e-4)

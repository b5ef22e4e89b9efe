"""Fidelity: exact for the true picture, less for a softer one, least for another place."""

import numpy as np
import pytest

from tests.blur import blurred
from training.evaluation.fidelity import fidelity
from training.evaluation.held_out import simulated
from training.scene import Scene


def test_the_true_picture_the_softer_one_and_another_place_in_this_order() -> None:
    true = simulated(Scene("meadow", "day", "blue"), 3_000_002, ["D"] * 3)
    elsewhere = simulated(Scene("meadow", "day", "blue"), 3_000_077, ["D"] * 3)
    found = [
        fidelity(frames, true) for frames in (true, blurred(true), blurred(true, 7), elsewhere)
    ]
    assert found[0].ssim == pytest.approx(1.0) and found[0].features == 0.0
    assert found[0].psnr > 60
    assert [f.psnr for f in found] == sorted((f.psnr for f in found), reverse=True)
    assert [f.ssim for f in found] == sorted((f.ssim for f in found), reverse=True)
    assert [f.features for f in found] == sorted(f.features for f in found)


def test_psnr_is_the_textbook_one() -> None:
    true = np.full((2, 48, 48, 3), 100, np.uint8)
    assert fidelity(true + 10, true).psnr == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert fidelity(true + 10, true).features == 0.0  # no gradient is lost or made

"""The view says where the ground is, at any size."""

import numpy as np
import pytest

from training.view import View, averaged, shrunk


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_view_is_the_small_one_enlarged(scale: int) -> None:
    view = View(scale)
    assert (view.width, view.height, view.horizon) == (144 * scale, 96 * scale, 40 * scale)
    assert View.of(np.zeros((5, view.height, view.width, 3))) == view
    small = View().ground().repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(view.ground(), small)
    assert 0.6 < view.ground().mean() < 0.8


def test_larger_pictures_are_averaged_to_the_small_size() -> None:
    small = np.random.default_rng(0).integers(0, 255, (2, 96, 144, 3)).astype(np.uint8)
    assert shrunk(small) is small
    assert np.array_equal(shrunk(small.repeat(2, 1).repeat(2, 2)), small)
    checks = np.indices((96, 144)).sum(0)[None] % 2
    assert (averaged(checks, 2) == 0.5).all() and averaged(checks, 2).shape == (1, 48, 72)

"""The view says where the ground is, at any size."""

import numpy as np
import pytest

from training.view import View


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_view_is_the_small_one_enlarged(scale: int) -> None:
    view = View(scale)
    assert (view.width, view.height, view.horizon) == (144 * scale, 96 * scale, 40 * scale)
    assert View.of(np.zeros((5, view.height, view.width, 3))) == view
    small = View().ground().repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(view.ground(), small)
    assert 0.6 < view.ground().mean() < 0.8

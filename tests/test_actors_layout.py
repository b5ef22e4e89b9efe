"""Which workers run where: on GPUs of the pool, or as processes."""

import pytest

from actors.layout import Layout, visible_gpus
from configs.errors import UserError


@pytest.mark.parametrize(
    ("wanted", "pool", "expected"),
    [
        ((None, None), (), Layout(1, 1)),
        ((2, 2), (), Layout(2, 2)),
        ((None, None), ("3",), Layout(1, 1, 1, ("3",))),
        ((None, None), ("0", "1", "2"), Layout(1, 2, 3, ("0", "1", "2"))),
        ((None, None), tuple("01234567"), Layout(1, 3, 4, tuple("0123"))),
        ((5, 3), tuple("01234567"), Layout(5, 3, 8, tuple("01234567"))),
        ((4, 0), tuple("01234567"), Layout(4, 0, 4, tuple("0123"))),
    ],
)
def test_workers_fit_the_machine(wanted, pool, expected):
    dit, vae = wanted
    assert Layout.plan(dit, vae, pool) == expected


def test_more_workers_than_gpus_are_refused():
    with pytest.raises(UserError, match="need 4 GPUs, 2 are visible"):
        Layout.plan(1, 3, ("0", "1"))
    assert visible_gpus(()) == ()


def test_gpus_that_are_not_there_are_refused():
    with pytest.raises(
        UserError, match="CUDA_VISIBLE_DEVICES=0,97,98: . of these GPUs can be used here"
    ):
        visible_gpus(("0", "97", "98"))

"""Ours against diffusers', small: the same weights give the same results, so what is timed is the
same work."""

from dataclasses import replace

import pytest

from pipeline.bench import peers
from pipeline.bench.shapes import TINY

SHAPE = replace(
    TINY, transformer=replace(TINY.transformer, control_start_layer=0, control_end_layer=0)
)
PART = (4, 6)


@pytest.mark.parametrize(
    "ours, theirs",
    [(peers.our_step, peers.their_step), (peers.our_decode, peers.their_decode)],
    ids=["step", "decode"],
)
def test_both_compute_the_same(ours: object, theirs: object) -> None:
    pytest.importorskip("diffusers")
    assert callable(ours) and callable(theirs)
    one, mine = ours(SHAPE, PART)
    other, its = theirs(SHAPE, PART)
    error = float((one.float() - other.float()).norm() / other.float().norm())
    assert one.shape == other.shape and error < 0.02
    assert mine["ms"] > 0 and its["ms"] > 0 and mine["mb"] >= 0

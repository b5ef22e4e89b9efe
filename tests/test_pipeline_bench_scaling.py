"""A second replica on a node of its own: a real cluster of two nodes, each on one processor."""

import os
from pathlib import Path

import pytest

from configs.errors import UserError
from pipeline.bench.options import Options
from pipeline.bench.scaling import measure


def test_one_processor_cannot_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(UserError, match="expected two processors"):
        measure(Options(tmp_path, (), 1.0, tmp_path))


@pytest.mark.soak
def test_all_three_ways_are_measured(model: Path) -> None:
    figures = measure(Options(model, (), 6.0, Path()))
    assert len(figures["rates"]) == 3 and all(rate > 1 for rate in figures["rates"].values())

"""What it takes to get to a moment: a real launcher, real clients."""

from pathlib import Path

import pytest

from pipeline.bench.moments import measure
from pipeline.bench.options import Options


@pytest.mark.soak
def test_every_way_to_a_moment_is_measured(model: Path) -> None:
    figures = measure(Options(model, (), 1.0, Path()))
    ways = ("save", "open", "branch", "go back", "wake")
    assert all(0 < figures[way]["p50"] <= figures[way]["most"] for way in ways)
    assert figures["file_bytes"] > 0

"""Branches in one process, and worlds of processes of their own."""

from pathlib import Path

from pipeline.bench.branches import BRANCHES, together


def test_branches_of_one_process_are_all_stepped(model: Path) -> None:
    rate, size = together(model, 0.2, 2)
    assert rate > BRANCHES and size > 50

"""The programs of docs/debugging.md do what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

TEXT = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", TEXT, re.M | re.S))


def run(title: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[title]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_program_is_run_here() -> None:
    assert TEXT.count("```python") == len(BLOCKS) == 3


def test_a_worker_runs_without_ray(tmp_path: Path) -> None:
    assert re.fullmatch(
        r"\('DL',\) \d+ ms \(4, 192, 288, 3\)\n", run("One worker, without Ray", tmp_path)
    )


def test_a_step_is_profiled(tmp_path: Path) -> None:
    assert "aten::" in run("A profile of a step", tmp_path)


def test_a_latent_is_looked_at(tmp_path: Path) -> None:
    assert "spread" in run("Looking at a latent", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"latent.png", "frames.png"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:tests|docs)/[\w./]+\w", TEXT))))
def test_what_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()

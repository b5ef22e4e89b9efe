"""What CONTRIBUTING.md promises: its world of one's own is played, its commands and files exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_world_of_ones_own_is_played(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "playing: first frame shown" in done.stderr
    assert re.search(r"[\d.]+ FPS shown", done.stderr)


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(
                r"\b(?:configs|models|actors|pipeline|training|tests|docs)/[\w/]+\.\w+", TEXT
            )
        )
    ),
)
def test_what_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^ +make (\w+)", TEXT, re.M))))
def test_make_knows_its_commands(target: str) -> None:
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.strip()

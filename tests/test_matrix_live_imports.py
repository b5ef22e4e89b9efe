"""Among other people's packages: the program is itself everywhere, the library says what is in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.logs import PACKAGES
from matrix_live.house import HOUSE, NAMES
from tests.places import ROOT


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder with packages of our names, each of which ends a program that imports it."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not this one')\n")
    return tmp_path


def python(folder: Path, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_here_the_packages_stand_beside_it() -> None:
    assert HOUSE == ROOT and all((HOUSE / name).is_dir() for name in NAMES)
    assert NAMES == PACKAGES, "each has its logger"


def test_the_program_is_itself_among_packages_of_the_same_names(crowded: Path) -> None:
    done = python(crowded, "-m", "matrix_live", "--help", path=f"{crowded}:{ROOT}")
    assert done.returncode == 0 and "commands" in done.stdout and done.stderr == ""
    done = python(crowded, "-m", "matrix_live", "--version", path=str(ROOT))
    assert done.returncode == 0 and done.stdout.startswith("the-matrix ")
    assert f"Python {sys.version.split()[0]}, torch " in done.stdout


def test_the_library_says_whose_package_is_in_the_way(crowded: Path) -> None:
    done = python(crowded, "-c", "import matrix_live.imports", path=str(ROOT))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: the-matrix-live needs its own package 'configs'")
    assert str(crowded / "configs" / "__init__.py") in last


def test_a_module_that_was_imported_before_is_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("mine = True\n")
    program = "import pipeline; import matrix_live.imports"
    done = python(tmp_path, "-c", program, path=str(ROOT))
    assert "needs its own package 'pipeline'" in done.stderr.splitlines()[-1]


def test_a_folder_of_weights_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    program = f"import sys; sys.path.remove({str(ROOT)!r}); import matrix_live.imports; import models.noise"
    holder = tmp_path / "holder"
    holder.mkdir()
    (holder / "matrix_live").symlink_to(ROOT / "matrix_live")
    done = python(tmp_path, "-c", program, path=f"{holder}:{ROOT}")
    assert done.returncode == 0, done.stderr


def test_everything_is_found_from_anywhere(tmp_path: Path) -> None:
    holder = tmp_path / "holder"
    holder.mkdir()
    (holder / "matrix_live").symlink_to(ROOT / "matrix_live")
    program = (
        "import matrix_live.imports; from pipeline.clients.client import connect; print(connect)"
    )
    done = python(tmp_path, "-c", program, path=str(holder))
    assert done.returncode == 0 and "function connect" in done.stdout, done.stderr

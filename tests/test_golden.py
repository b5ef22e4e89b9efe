"""The golden numbers of the published system, from the copy beside the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.golden.cases import CASES, Comparison, compare

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    results = list(CASES[name](FOLDER))
    assert results
    assert [result for result in results if not result.ok] == []


def test_comparisons_can_fail() -> None:
    expected = torch.tensor([1.0, -2.0])
    assert compare("same", expected, expected).ok
    assert not compare("off", expected + 1e-3, expected).ok
    assert not compare("nan", expected * torch.nan, expected).ok
    assert not compare("shape", expected[:1], expected).ok
    assert compare("", expected, expected) == Comparison("", 0.0, 2e-4)


def test_absent_cases_are_said_and_a_failure_is_exit_code_one(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    signals = (FOLDER / "cases/control_signals.json").read_text()
    (tmp_path / "cases/control_signals.json").write_text(signals.replace("D,D,D", "D,D,B"))
    command = [sys.executable, "-m", "tests.golden", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1 and "FAIL" in run.stdout
    assert run.stdout.count("absent") == len(CASES) - 1
    (tmp_path / "cases/control_signals.json").write_text("{")
    (tmp_path / "cases/lcm_swin_step.json").write_text("[]")
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (
        run.returncode == 1
        and "FAIL (JSONDecodeError" in run.stdout
        and "FAIL (FileNotFoundError" in run.stdout
    )
    for file in (tmp_path / "cases").iterdir():
        file.unlink()
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1 and run.stdout.count("absent") == len(CASES), "nothing was shown"
    shutil.rmtree(tmp_path / "cases")
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 2 and run.stderr.startswith("error: ")

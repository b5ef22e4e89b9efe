"""Two trainings never write into one folder at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import UserError
from training.alone import alone


def test_a_second_training_is_told_and_another_stage_or_folder_is_free(tmp_path: Path) -> None:
    with alone(tmp_path / "work", "diffusion"):
        said = "another training is at its stage 'diffusion'"
        with pytest.raises(UserError, match=said), alone(tmp_path / "work", "diffusion"):
            pass
        with alone(tmp_path / "work", "data"), alone(tmp_path / "other", "diffusion"):
            pass
    with alone(tmp_path / "work", "diffusion"):
        pass


def test_a_killed_training_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from training.alone import alone\n"
        "with alone(Path(sys.argv[1]), 'text'): print('here', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "here\n"
    with pytest.raises(UserError, match="another training"), alone(tmp_path, "text"):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    with alone(tmp_path, "text"):
        pass

"""What a head of our own starts with: its folder, its variables, and a machine that can run it."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.head import RunFolder, adopt_secrets, check_machine, head_environment, sweep
from actors.layout import Layout
from configs.errors import UserError
from tests.places import ROOT


def test_a_folder_that_nobody_holds_is_swept(tmp_path: Path) -> None:
    code = f"""
import tempfile, os, signal
tempfile.tempdir = {str(tmp_path)!r}
from actors import head
head._parent = lambda: head.Path({str(tmp_path)!r})
folder = head.RunFolder()
(folder.path / "token").write_text("secret")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "token").exists()
    stranger = tmp_path / "matrix-of-somebody"
    stranger.mkdir()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [stranger]


def test_a_folder_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.head._parent", lambda: tmp_path)
    one, two = RunFolder(), RunFolder()
    assert one.path.exists() and two.path.exists() and one.path.stat().st_mode & 0o777 == 0o700
    one.remove()
    assert list(tmp_path.iterdir()) == [two.path]
    two.remove()
    two.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sh\u00f6rt", "a-name-that-is-far-too-long-for-a-socket-of-ray"])
def test_where_ray_cannot_live_the_folder_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", f"/tmp/{name}")
    folder = RunFolder()
    assert folder.path.parent == Path("/tmp") and str(folder.path).isascii()
    folder.remove()


def test_variables_of_another_ray_have_no_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"})
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    adopt_secrets(tmp_path)
    seen = head_environment(Layout(), tmp_path)
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR" not in seen and "PYTHONOPTIMIZE" not in seen
    assert seen["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")


def test_what_ray_needs_not_is_not_imported(tmp_path: Path) -> None:
    """A grammar that comes with Jupyter; in processes of Ray, and in one that imports it itself."""
    code = "import ray, sys; print('lark' in sys.modules)"
    environment = head_environment(Layout(), tmp_path)
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, env=environment, cwd=tmp_path, text=True) == "False\n"
    code = (
        "from actors import head; head.import_ray(); import ray, sys; print('lark' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_a_machine_without_shared_memory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_machine()
    monkeypatch.setattr("actors.head.SHARED_MEMORY", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"shared memory: .*nowhere cannot be written"):
        check_machine()


def test_a_folder_that_is_just_being_made_is_not_swept_by_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.head._parent", lambda: tmp_path)
    lock = fcntl.flock

    def swept_meanwhile(descriptor: int, operation: int) -> None:
        monkeypatch.setattr("fcntl.flock", lock)
        sweep(tmp_path)
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", swept_meanwhile)
    # The first lock that is taken is the new folder's own: tmp_path is empty before.
    folder = RunFolder()
    assert (folder.path / "alive").is_file()
    folder.remove()

"""The guardian alone, with a head that is a shell: logs are kept, nothing else is left."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from actors.guardian import LOGS

HEAD = 'mkdir -p "$1" && echo "MemoryError: x" > "$1/worker-a-01-4711.err"; echo Ray runtime started; sleep 600'


def guarded(folder: Path, keep: str) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    command = ["bash", "-c", HEAD, "head", str(folder / LOGS)]
    return subprocess.Popen(
        [sys.executable, "-m", "actors.guardian", str(folder), keep, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("keeps", [True, False])
def test_when_the_launcher_is_gone_only_the_logs_are_left(tmp_path: Path, keeps: bool) -> None:
    folder, kept = tmp_path / "run", tmp_path / "kept" / "run"
    guardian = guarded(folder, str(kept) if keeps else "")
    assert guardian.stdin is not None and guardian.stdout is not None
    assert guardian.stdout.readline() == b"ready\n"
    below = psutil.Process(guardian.pid).children(recursive=True)
    assert below
    guardian.stdin.close()
    assert guardian.wait(60) == 0
    assert not psutil.wait_procs(below, 5)[1], "who adopts them may take a moment to bury them"
    assert not folder.exists()
    assert kept.exists() == keeps
    if keeps:
        assert "Ray runtime started" in (kept / "head.log").read_text()
        assert "MemoryError: x" in (kept / "ray" / "worker-a-01-4711.err").read_text()


def test_logs_that_cannot_be_kept_leave_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    guardian = guarded(tmp_path / "run", str(tmp_path / "file" / "run"))
    assert guardian.stdout is not None and guardian.stdout.readline() == b"ready\n"
    guardian.communicate(timeout=60)
    assert guardian.returncode == 0 and not (tmp_path / "run").exists()

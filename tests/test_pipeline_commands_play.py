"""``python -m pipeline play``: another program's world with our pacer and recorder."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.video import read_video

ROAD = ["--", sys.executable, "-m", "tests.road"]


def test_a_program_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "drive.mp4"
    settings = ["--headless", "--duration", "1.5", "--record", str(path), "--seed", "3"]
    assert main(["play", *settings, *ROAD, "--size", "96x64"]) == 0
    frames, fps = read_video(path)
    # 24, less on a busy machine
    assert 8 <= len(frames) <= 25 and frames.shape[1:] == (64, 96, 3) and fps == 16
    shown = capsys.readouterr()
    assert shown.out.split() == [str(path)] and "96x64" in shown.err
    assert path.with_suffix(".jsonl").is_file()


def test_the_token_of_the_environment_is_that_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MATRIX_TOKEN", "a-token-made-for-these-tests-only")
    monkeypatch.setenv("NUM_GPUS_DIT", "nothing that a program needs")
    assert main(["play", "--port", "0", "--duration", "0.5", *ROAD]) == 0
    assert "/?token=a-token-made-for-these-tests-only" in capsys.readouterr().err
    monkeypatch.setenv("MATRIX_TOKEN", "short")
    assert main(["play", "--port", "0", *ROAD]) == 2


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp4").touch()
    for arguments, expected in (
        (["play"], "COMMAND"),
        (["play", "--headless", "--", str(tmp_path / "none")], "cannot be started"),
        (["play", "--headless", "--", "/bin/echo", "hello"], "JSON header"),
        (["play", "--headless", "--record", str(tmp_path / "x.mp4"), *ROAD], "never overwritten"),
        (["play", "--headless", "--duration", "no", *ROAD], "number"),
    ):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and expected in lines[0]


def test_a_recording_on_a_full_disk_ends_with_a_line_and_an_exit_code(tmp_path: Path) -> None:
    """The drive goes on; the file is named at the end, and scripts see that something is missing."""

    def few_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    path = tmp_path / "drive.mp4"
    command = ["-m", "pipeline", "play", "--headless", "--duration", "4", "--record", str(path)]
    done = subprocess.run(
        [sys.executable, *command, *ROAD, "--size", "320x240"],
        preexec_fn=few_bytes,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert "drive.mp4" in lines[-1] and "recording ended" in lines[-1]
    told = [line for line in lines if "ended: video" in line or "failed" in line]
    assert len(told) == 2, "when it happened, and at the end"
    assert float(re.findall(r"^\[ *([\d.]+) s\] ended: ", done.stderr, re.MULTILINE)[0]) >= 4
    assert not list(tmp_path.glob("*.part"))

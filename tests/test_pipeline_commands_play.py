"""``python -m pipeline play``: another program's world with our pacer and recorder."""

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
    assert (
        8 <= len(frames) <= 25 and frames.shape[1:] == (64, 96, 3) and fps == 16
    )  # 24, less on a busy machine
    shown = capsys.readouterr()
    assert shown.out.split() == [str(path)] and "96x64" in shown.err
    assert path.with_suffix(".jsonl").is_file()


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

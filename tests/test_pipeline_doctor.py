"""The look at the machine: every line says how it is, and what to do where it is not well."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from configs.schema import RunConfig
from pipeline import doctor
from pipeline.__main__ import main
from pipeline.doctor import LOOKS, MEND, OK, Finding, findings
from pipeline.launch import Launch
from pipeline.signals import StopSignals
from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.video import ffmpeg_encoders
from tests.live import ROAD


def test_every_finding_says_how_it_is() -> None:
    found = list(findings(drive=False))
    assert len(found) == len(LOOKS) and {each.how for each in found} <= {OK, "look here", MEND}
    well = {each.what for each in found if each.how == OK}
    assert well >= {"ffmpeg", "weights", "packages", "state folder"}
    assert all(each.seen and "\n" not in each.line() for each in found)
    assert all(each.do for each in found if each.how != OK)


def test_what_fails_is_a_line_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("actors.head.SHARED_MEMORY", Path("/nowhere"))
    assert main(["doctor", "--no-drive"]) == 1
    assert "to mend   network         shared memory: /nowhere" in capsys.readouterr().out


def test_a_codec_that_is_missing_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FrameEncoder", lambda *_: av.codec.Codec("absent", "w"))
    (found,) = [each for each in doctor.findings(drive=False) if each.what == "ffmpeg"]
    assert found.how == doctor.MEND and "absent" in found.seen


def test_no_line_tells_where_the_home_folder_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path(doctor.__file__).parent.parent)
    doctor.report(drive=False, paths=False)
    assert "at ~/models/large" in capsys.readouterr().out


def test_a_state_folder_that_others_may_write_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "the-matrix-live"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert doctor.report(drive=False, paths=False) == 0
    said = capsys.readouterr().out
    assert "look here state folder" in said and "chmod go-w" in said


def test_the_encoders_that_recordings_need_are_there() -> None:
    assert "libx264" in ffmpeg_encoders()


def test_a_line_holds_what_to_do() -> None:
    assert Finding("memory", MEND, "little", "close programs").line() == (
        "to mend   memory          little; close programs"
    )


def test_ctrl_c_ends_the_drive_whole() -> None:
    """Nothing is left for the loop's end to destroy: the show stops, and the workers are let go."""
    fleet = Launch.make(RunConfig(headless=True, no_state=True)).fleet()

    async def drive() -> tuple[int, str]:
        show = Show(await Program.launch(ROAD), seed=42, prompt="a road")
        loop = asyncio.get_running_loop()
        loop.call_later(0.7, os.kill, os.getpid(), signal.SIGINT)
        return await StopSignals(show.stop).run(doctor.played(show, fleet, {})), show.state

    assert asyncio.run(drive()) == (130, "ended")


def test_the_drive_measures_ray_and_the_speed() -> None:
    command = [sys.executable, "-m", "pipeline", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr[-1000:]
    assert any(line.startswith("ok        ray") and "came up in" in line for line in lines)
    assert any(re.match(r"ok +engine +(torch|openvino)-", line) for line in lines)
    assert "frames a second, step" in lines[-1]

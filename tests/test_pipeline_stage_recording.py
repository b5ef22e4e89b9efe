"""Control logs as they are read back: whole, torn, wrong, hostile. The show's tests record real
ones."""

import json
import os
import time

import numpy as np
import pytest

from actors.source import Take
from configs.errors import UserError
from pipeline.stage.recording import Tape, read_control_log
from tests.test_pipeline_stage_show import INFO


def write_log(path, *entries, tail=""):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


def entry(index, **changes):
    return {
        "index": index,
        "label": "D",
        "prompt": "p",
        "seed": 1,
        "model": INFO.model_hash,
        "epoch": 0,
    } | changes


def test_a_torn_last_line_is_ignored(tmp_path):
    path = write_log(tmp_path / "log", entry(0), entry(1, label="DL"), tail='{"index": 2, "la')
    assert read_control_log(path, INFO) == [Take(1, ("D", "DL"), ("p", "p"))]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "at least one"),
        ([entry(0, model="b" * 16)], "another model"),
        ([entry(0), entry(2)], "expected index 1"),
        ([entry(1)], "expected index 0"),
        ([entry(0), entry(1, seed=2)], "seed changes"),
        ([entry(0, label="UP")], "label"),
        ([entry(0, seed=True)], "'seed'"),
        ([["D"]], "'index'"),
    ],
)
def test_a_bad_log_is_refused_with_the_reason(tmp_path, entries, reason):
    with pytest.raises(UserError, match=reason):
        read_control_log(write_log(tmp_path / "log", *entries), INFO)


def test_a_log_is_a_plain_file_of_bounded_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(10**12)
    (tmp_path / "deep").write_text("[" * 100_000 + "\n")
    for name, reason in (
        ("pipe", "found a pipe"),
        ("giant", "at most"),
        ("deep", "JSON object"),
        ("none", "No such file"),
    ):
        start = time.monotonic()
        with pytest.raises(UserError, match=reason):
            read_control_log(tmp_path / name, INFO)
        assert time.monotonic() - start < 2


def recorded(tmp_path):
    """A tape with one finished recording of one frame, and its name."""
    tape = Tape(INFO, tmp_path, 7)
    recorder = tape.record(None, 0)
    recorder.add(np.zeros((INFO.height, INFO.width, 3), np.uint8))
    tape.latent(0, "D", "a road")
    stopped = tape.stop()
    assert stopped is not None
    stopped.close()
    return tape, recorder.path.name


def test_a_recording_is_renamed_and_deleted_with_its_log(tmp_path):
    tape, name = recorded(tmp_path)
    tape.rename(name, "Evening (2)")
    assert sorted(tape.files) == ["Evening (2).jsonl", "Evening (2).mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(tape.files)
    tape.delete("Evening (2).mp4")
    assert not tape.files and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "stem", ["", "../up", "a/b", "a\\b", ".hidden", "x" * 81, "a\nb", "a\0b", "-rf", "C:", "a;b"]
)
def test_a_recordings_new_name_leads_nowhere_else(tmp_path, stem):
    tape, name = recorded(tmp_path)
    with pytest.raises(UserError, match="recording name"):
        tape.rename(name, stem)
    assert (tmp_path / name).is_file()


def test_what_is_no_finished_recording_of_this_run_stays(tmp_path):
    tape, name = recorded(tmp_path)
    (tmp_path / "other.mp4").write_bytes(b"x")
    for other in ("other.mp4", "../other.mp4", "", name.replace("mp4", "jsonl")):
        with pytest.raises(UserError, match="this run has none"):
            tape.delete(other)
    with pytest.raises(UserError):
        tape.rename(name, "other")  # it is there already
    running = tape.record(tmp_path / "running.mp4", 0)
    for action in (lambda: tape.delete("running.mp4"), lambda: tape.rename("running.mp4", "x")):
        with pytest.raises(UserError, match="is being recorded"):
            action()
    tape.stop().close()
    assert running.path.exists() or not running.frames
    assert (tmp_path / "other.mp4").read_bytes() == b"x" and (tmp_path / name).is_file()

"""Control logs as they are read back: whole, torn, wrong, hostile. The show's tests record real
ones."""

import json
import os
import time
from dataclasses import replace

import pytest

from actors.source import Take
from configs.errors import UserError
from pipeline.stage.control_log import ControlLog, read_control_log
from tests.squares import INFO


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


def test_a_drive_from_a_picture_of_ones_own_asks_for_it(tmp_path):
    """Its weights may well be those that are here: the hash of such a stream does not tell."""
    own = replace(INFO, model_hash="c" * 16, own_start=True)
    paths = [tmp_path / "own.jsonl", tmp_path / "plain.jsonl"]
    for info, path in zip((own, INFO), paths):
        log = ControlLog(path, info)
        log.add(0, 0, "D", "p", 1)
        log.close()
        assert read_control_log(path, info) == [Take(1, ("D",), ("p",))]
    began, other, without = (
        "line 1: the drive began at a picture of its own; give that picture with --start FILE",
        "another --start or other weights .*; give the --start that it began with",
        "choose its weights with MODEL_PATH, and leave --start out unless it had one",
    )
    for path, info, words in (
        (paths[0], INFO, began),
        (paths[0], replace(own, model_hash="d" * 16), other),
        (paths[1], own, without),
    ):
        with pytest.raises(UserError, match=words):
            read_control_log(path, info)


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

"""Files from outside: whatever lies there, the answer is its bytes or one line, at once."""

import os
import time
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.files import found_at, parse_json, read_bytes, read_text


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("schön")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_text(tmp_path / "x", 6, "file x") == "schön"
    assert read_bytes(tmp_path / "link", 100, "link") == "schön".encode()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "found a folder"),
        (lambda path: os.mkfifo(path), "found a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "found a device"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda path: path.write_bytes(b"x" * 101), "at most 100 bytes, got 101"),
    ],
    ids=["nothing", "folder", "pipe", "device", "loop", "binary", "large"],
)
def test_anything_else_is_one_line(make, said: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    start = time.monotonic()
    with pytest.raises(UserError, match=said) as error:
        read_text(tmp_path / "x", 100, "config x")
    assert str(error.value).startswith("config x: ") and "\n" not in str(error.value)
    assert time.monotonic() - start < 1


def test_what_lies_there_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = [found_at(tmp_path / name) for name in ("none", "file", "pipe", "loop", "a\0b", ".")]
    assert found == ["nothing", "a file", "a pipe", "nothing", "nothing", "a folder"]
    assert found_at(Path("/dev/zero")) == "a device or socket"


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UserError, match="at most 1000 bytes"):
        read_bytes(tmp_path / "x", 1000, "replay x")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1", "", "1" * 5000])
def test_broken_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_pairs_are_handed_on() -> None:
    assert parse_json('{"a": 1, "a": 2}', pairs=list) == [("a", 1), ("a", 2)]

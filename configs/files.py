"""Files from outside, read with care: regular ones only, of a bounded size, and JSON no deeper than
a reader can follow."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.errors import UserError


def read_bytes(path: Path, limit: int, what: str) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; ``what`` begins the UserError of any
    other. A pipe or a device is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file name"
        raise UserError(f"{what}: cannot be read ({reason})") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{what}: cannot be read (expected a file, found {_kind(status)})")
        if status.st_size > limit:
            raise UserError(f"{what}: expected at most {limit} bytes, got {status.st_size}")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as error:
        raise UserError(f"{what}: cannot be read ({error.strerror})") from None
    finally:
        os.close(handle)


def read_text(path: Path, limit: int, what: str) -> str:
    """The UTF-8 text of a regular file of at most ``limit`` bytes. Raises UserError."""
    try:
        return read_bytes(path, limit, what).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{what}: cannot be read (not UTF-8 text)") from None


def parse_json(
    text: str | bytes,
    pairs: Callable[[list[tuple[str, object]]], object] | None = None,
) -> object:
    """The value of a JSON text; ValueError for anything else, too deeply nested ones included.

    pairs: makes an object of its (key, value) pairs, as in ``json.loads``.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON text (`parse_json`) whose names all differ; ValueError for another."""
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"duplicate name {next(name for name in names if names.count(name) > 1)[:80]!a}"
        )
    return values


def read_json_file(path: Path, limit: int) -> object:
    """The value in a regular JSON file of at most ``limit`` bytes. Raises UserError."""
    try:
        return parse_json(read_bytes(path, limit, str(path)))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({str(error)[:120]})") from None


def found_at(path: Path) -> str:
    """What lies at a path, in words for a message: "nothing", "a file", "a folder", ..."""
    try:
        return _kind(path.stat())
    except (OSError, ValueError):  # or no name at all
        return "nothing"


def _kind(status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        return "a file"
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device or socket"

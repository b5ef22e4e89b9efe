"""Checks every door shares (command line, API, socket): numbers in range, prompts that are text."""

import math
import os
import re
import tempfile
import unicodedata
from pathlib import Path

from configs.errors import UserError

MAX_SEED = 2**53 - 1  # the largest whole number that a web page shows and sends back exactly
MAX_PROMPT = 4000  # characters; the published model reads 226 tokens, about a quarter of this
LONGEST_PATH = 4000  # bytes, of the 4095 that Linux takes
LONGEST_NAME = 255  # bytes of a file's name
LONGEST_OUTPUT = 250  # of one that we write: what lies beside it meanwhile has a longer one
MARKS = ("Mn", "Mc")  # what stands over, under or beside a letter and belongs to it
# http:, file:, concat:, pipe: ... mean more than a file to ffmpeg
PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """``value`` itself if it is an int (no bool, no float, no text) within [low, high], else
    UserError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{name}: expected a whole number from {low} to {high}, got {quoted(value)}"
        )
    return value


def real_number(name: str, value: object, low: float, high: float) -> float:
    """``value`` as a float if it is a finite number within [low, high], else UserError."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not low <= value <= high
        or not math.isfinite(value)
    ):
        raise UserError(f"{name}: expected a number from {low:g} to {high:g}, got {quoted(value)}")
    return float(value)


def check_seed(value: object, name: str = "seed") -> int:
    """A seed: 0 to 2^53 - 1."""
    return whole_number(name, value, 0, MAX_SEED)


def check_prompt(value: object, name: str = "prompt") -> str:
    """The prompt as one line of text: white space joined, nothing a log or a tokenizer would
    stumble over."""
    if not isinstance(value, str):
        raise UserError(f"{name}: expected text, got {quoted(value)}")
    if len(value) > MAX_PROMPT:
        raise UserError(
            f"{name}: expected at most {MAX_PROMPT} characters, got {len(value)}; shorten it"
        )
    text = " ".join(value.split())
    if not text:
        raise UserError(f"{name}: expected a description of the world, got nothing")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise UserError(f"{name}: character U+{ord(character):04X} is not text; remove it")
    return text


def check_title(value: str, name: str, most: int, others: str) -> str:
    """A name that people give to a thing, in Unicode's composed form (NFC), so that it is the same
    on whatever system it was typed: letters, their marks, digits, spaces and some ``others``, at
    most so many. Raises UserError."""
    text = unicodedata.normalize("NFC", value[: 4 * most + 1])
    allowed = (c.isalnum() or c in others or unicodedata.category(c) in MARKS for c in text)
    if not (0 < len(text) <= most and text[0].isalnum() and all(allowed)):
        raise UserError(
            f"{name}: expected up to {most} letters, digits, spaces and {' '.join(others.strip())},"
            f" the first a letter or digit, got {value[:most]!a}"
        )
    return text


def check_path(path: Path, name: str) -> Path:
    """``path`` if a file may be called so, wherever it lies. Raises UserError."""
    text = str(path)
    try:
        names = [os.fsencode(part) for part in path.parts]
    except UnicodeEncodeError:
        raise UserError(f"{name}: expected a path that is text, got {quoted(text)}") from None
    if "\0" in text or sum(map(len, names)) + len(names) > LONGEST_PATH:
        raise UserError(
            f"{name}: expected a path of at most {LONGEST_PATH} bytes, got {quoted(text)}"
        )
    if any(len(each) > LONGEST_NAME for each in names):
        raise UserError(
            f"{name}: expected names of at most {LONGEST_NAME} bytes in the path, got {quoted(text)}; "
            "shorten it"
        )
    return path


def home_path(path: str | Path, name: str) -> Path:
    """``path`` with ``~`` as a home folder. Raises UserError for a user that is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"{name}: expected a user's home folder behind '~', got {quoted(path)}; write ./ before a "
            "name that starts so"
        ) from None


def check_output_folder(path: Path, name: str) -> Path:
    """``path`` if it may be made or filled: nothing is there, or an empty folder."""
    check_path(path, name)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"{name} {path}: expected a new or an empty folder, and nothing is ever overwritten;"
            " choose another name"
        )
    if not path.is_dir():
        return check_output_file(path, name)
    _check_writable(path, name)
    return path


def quoted(value: object) -> str:
    """A value from outside, short and harmless enough for an error or a log line."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_video_file(path: Path, name: str, overwrite: bool = False) -> Path:
    """``path`` if it may be written and its name says what it will hold."""
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{name} {path}: videos are mp4 files; give a name that ends in .mp4")
    return check_output_file(path, name, overwrite)


def check_output_file(path: Path, name: str = "output", overwrite: bool = False) -> Path:
    """``path`` if it may be written: its folder exists, it does not, and no tool takes it for an
    option or address."""
    text = str(path)
    if not text.strip() or "\0" in text:
        raise UserError(f"{name}: expected a file name, got {quoted(text)}")
    check_path(path, name)
    if len(os.fsencode(path.name)) > LONGEST_OUTPUT:
        raise UserError(
            f"{name}: expected a name of at most {LONGEST_OUTPUT} bytes, got {quoted(path.name)}; "
            "shorten it"
        )
    if text.startswith("-") or path.name.startswith("-"):
        raise UserError(f"{name} {text}: a name must not start with '-'; choose another")
    if PROTOCOL.match(text):
        raise UserError(
            f"{name} {text}: a local file is needed, not an address or protocol; give a plain path"
        )
    if not path.parent.is_dir():
        what = "is a file" if path.parent.exists() else "does not exist"
        raise UserError(f"{name} {text}: folder {path.parent} {what}; create it first")
    if path.is_dir():
        raise UserError(
            f"{name} {text}: expected a file name, got a folder; add a name such as {path / 'drive.mp4'}"
        )
    if path.exists() and not overwrite:
        raise UserError(
            f"{name} {text}: the file exists and is never overwritten; move it or choose another name"
        )
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{name} {text}: expected a new name, got a link to {os.readlink(path)}, where nothing is; "
            "remove the link or choose another name"
        )
    _check_writable(path.parent, f"{name} {text}")
    return path


def _check_writable(folder: Path, what: str) -> None:
    """Raise UserError unless a file can be made in a folder: one without a name where the file system
    knows those, as modes do not tell of /proc, of full disks, or to root."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{what}: folder {folder} is not writable ({error.strerror}); choose another one"
        ) from None

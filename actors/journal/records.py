"""What a journal notes, a record each, and how they lie in its log: length, CRC-32 and JSON, one a
line. What a crash cut off at the end is not there; anything else that is broken is one UserError.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from configs.errors import UserError
from configs.files import parse_json
from configs.limits import check_prompt, check_seed, real_number, whole_number
from models.controls import MAX_SIGNAL, parse_signal

LOG: Final = "drive.log"  # in a journal's folder
FORMAT: Final = 1
LARGEST: Final = 1 << 16  # bytes of a record
COUNT: Final = 1 << 53

WHOSE: Final = {"launcher", "world", "name", "start"}  # of a head; older logs have none of them


class EmptyLog(UserError):
    """A log without a whole record: nothing was made in its journal."""


_ID = re.compile(r"[a-z0-9]{0,16}")
_FRAME = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) ")
_FRAME_BYTES: Final = 18


@dataclass(frozen=True)
class Head:
    """The first of a log. model, weights, engine: as in a snapshot; begun: seconds since 1970.
    launcher: who keeps it, a name of its own each time; world, name: the id of its world there, and
    what people call it; start: the stream's hash, where a start of one's own goes before the
    weights' clips (`models.checkpoint.Checkpoint.stream_hash`). "" where nobody said."""

    model: str
    weights: str
    engine: str
    begun: float
    launcher: str = ""
    world: str = ""
    name: str = ""
    start: str = ""


@dataclass(frozen=True)
class Began:
    """A stream began, or a shortened log begins with its latent ``latent``: ``prompt`` is in
    force."""

    stream: int
    latent: int
    seed: int
    prompt: str


@dataclass(frozen=True)
class Made:
    """The latents from ``latent`` on were made: their steps were given ``labels`` ("D*2"), and
    ``prompt`` if it is another one than before ("" = the same)."""

    latent: int
    labels: str
    prompt: str


@dataclass(frozen=True)
class Shown:
    """A latent reached the screen."""

    latent: int


@dataclass(frozen=True)
class Asked:
    """A prompt was asked for: it is in force from the next step on."""

    prompt: str


@dataclass(frozen=True)
class Recorded:
    """A recording began at this absolute path; "" = it was stopped."""

    path: str


@dataclass(frozen=True)
class Ended:
    """The session ended because it was told to. Nothing comes after it."""


Record = Head | Began | Made | Shown | Asked | Recorded | Ended


def write_record(record: Record) -> bytes:
    """A record as it lies in the log."""
    values = {"kind": type(record).__name__.lower(), **asdict(record)}
    if isinstance(record, Head):
        values["format"] = FORMAT
    text = json.dumps(values, ensure_ascii=False).encode()
    return b"%08x %08x %s\n" % (len(text), zlib.crc32(text), text)


def read_records(data: bytes) -> Iterator[Record]:
    """The records of a log. Raises UserError for what is damaged, foreign or from a later
    version, EmptyLog for one that was cut off before its first record was whole."""
    at = 0
    while (text := _text_at(data, at)) is not None:
        try:
            record = _parsed(text)
        except UserError as error:
            raise UserError(f"byte {at}: {error}") from None
        if isinstance(record, Head) != (at == 0):
            raise UserError(f"byte {at}: not the log of a journal, or two of them in one")
        yield record
        at += _FRAME_BYTES + len(text) + 1
    if at == 0 and b"\n" not in data:
        raise EmptyLog("not the log of a journal: nothing was made in it")
    if at == 0:
        raise UserError("not the log of a journal")
    if len(data) - at > _FRAME_BYTES + LARGEST:  # and looking there for whole ones may take long
        raise UserError(f"damaged at byte {at}, with more after it than a record can have")
    if any(_text_at(data, after) is not None for after in _line_starts(data, at)):
        raise UserError(f"damaged at byte {at}, with whole records after it")


def read_last(data: bytes) -> Record | None:
    """The last record of a log, of whose end ``data`` is a part; None if it is torn."""
    text = _text_at(data, data.rfind(b"\n", 0, -1) + 1)
    return None if text is None else _parsed(text)


def _text_at(data: bytes, at: int) -> bytes | None:
    """The JSON of the record that begins there; None if none does."""
    frame = _FRAME.match(data, at)
    if frame is None or (length := int(frame[1], 16)) > LARGEST:
        return None
    text = data[frame.end() : frame.end() + length]
    whole = data[frame.end() + length : frame.end() + length + 1] == b"\n"
    return text if whole and zlib.crc32(text) == int(frame[2], 16) else None


def _line_starts(data: bytes, at: int) -> Iterator[int]:
    while at := data.find(b"\n", at) + 1:
        yield at


def _parsed(text: bytes) -> Record:
    """The record of a JSON text. Raises UserError."""
    try:
        value = parse_json(text)
    except ValueError:
        raise UserError("expected a JSON object") from None
    return _record(value)


def _record(value: object) -> Record:
    """Raises UserError for a record that this version does not know, or that cannot be."""
    match value:
        case {"kind": "head", "format": int(form), **rest}:
            return _head(form, rest)
        case {"kind": "began", "stream": n, "latent": k, "seed": s, "prompt": p, **rest} if (
            not rest
        ):
            stream = whole_number("stream", n, 0, COUNT)
            return Began(stream, _latent(k), check_seed(s), check_prompt(p))
        case {"kind": "made", "latent": k, "labels": str(labels), "prompt": p, **rest} if not rest:
            parse_signal(labels)
            return Made(_latent(k), labels, check_prompt(p) if p != "" else "")
        case {"kind": "shown", "latent": k, **rest} if not rest:
            return Shown(_latent(k))
        case {"kind": "asked", "prompt": p, **rest} if not rest:
            return Asked(check_prompt(p))
        case {"kind": "recorded", "path": p, **rest} if not rest:
            return Recorded(_line("path", p) if p != "" else "")
        case {"kind": "ended", **rest} if not rest:
            return Ended()
    raise UserError(f"expected a record of a journal, found {str(value)[:60]!a}")


def _head(form: int, values: Mapping[Any, object]) -> Head:
    if form != FORMAT:
        raise UserError(f"format {form}; this version reads {FORMAT}")
    match values:
        case {"model": m, "weights": w, "engine": e, "begun": b, **rest} if rest.keys() <= WHOSE:
            begun = real_number("begun", b, 0, 1e11)
            whose = {name: _line(name, value) for name, value in rest.items() if value != ""}
            for name in ("launcher", "world"):
                if not _ID.fullmatch(whose.get(name, "")):
                    raise UserError(f"{name}: expected up to 16 small letters and digits")
            return Head(_line("model", m), _line("weights", w), _line("engine", e), begun, **whose)
    raise UserError("expected model, weights, engine and begun")


def _latent(value: object) -> int:
    return whole_number("latent", value, 0, MAX_SIGNAL)


def _line(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 4096:
        raise UserError(f"{name}: expected a line of text")
    return value

"""The wire format of the live socket: the header of binary frames, and the JSON messages of a
client. Pure functions.

docs/protocol.md documents every field for people; this file decides.
"""

import json
import re
import struct
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from actors.source import Take
from configs.errors import UserError
from configs.geometry import LATENTS_PER_SECOND
from configs.limits import check_prompt, check_seed, quoted, real_number, whole_number
from models.controls import LABELS, label_id, parse_signal, write_signal

PROTOCOL = 1
CODEC_JPEG = 1
CODEC_H264 = 2
KEYS = ("straight", "left", "right", "reverse", "coast")

Message = dict[str, Any]  # a JSON object with a ``type``

LONGEST_MESSAGE = 48_000  # characters of one JSON message
LONGEST_REPLAY = LATENTS_PER_SECOND * 3600  # latents: one hour
LARGEST_NUMBER = 2**53 - 1  # the largest whole number a browser holds exactly
MOST_BRACKETS = 512  # a replay with every part it may have; what is deeper is not ours

_LONG_COUNT = re.compile("[0-9]{6}")
# magic, version, codec, flags, control id, quality, -, width, height, epoch, frame, cursor, prompt
# version, clock
_HEADER = struct.Struct("!2sBBBBBxHHIIIId")
HEADER_BYTES = _HEADER.size
FLAG_FIRST = 1  # the first frame of its epoch
FLAG_KEY = 2  # H.264: decoding can begin with it


@dataclass(frozen=True)
class FrameHeader:
    """What travels before each picture.

    ``frame`` counts from 0 in its epoch; ``cursor`` is the newest control conditioned into it (0 =
    none yet); ``clock`` is the server's monotonic clock in seconds at sending. ``key``: an H.264
    picture that needs none before it.
    """

    label: str
    quality: int
    width: int
    height: int
    epoch: int
    frame: int
    cursor: int
    prompt_version: int
    clock: float
    codec: int = CODEC_JPEG
    key: bool = False

    def pack(self) -> bytes:
        """The 36 bytes before the picture, network byte order."""
        flags = FLAG_FIRST * (self.frame == 0) + FLAG_KEY * self.key
        return _HEADER.pack(
            b"MX",
            PROTOCOL,
            self.codec,
            flags,
            label_id(self.label),
            self.quality,
            self.width,
            self.height,
            self.epoch,
            self.frame,
            self.cursor,
            self.prompt_version,
            self.clock,
        )


def unpack_frame(message: bytes) -> tuple[FrameHeader, bytes]:
    """A binary message as its header and its picture. Raises ValueError for anything else."""
    if len(message) <= HEADER_BYTES:
        raise ValueError(f"frame message of {len(message)} bytes is shorter than its header")
    magic, version, codec, flags, label, quality, *rest = _HEADER.unpack_from(message)
    known = codec in (CODEC_JPEG, CODEC_H264) and label < len(LABELS)
    if magic != b"MX" or version != PROTOCOL or not known:
        raise ValueError(
            f"expected a frame of protocol {PROTOCOL}, got {magic!r} version {version} codec {codec}"
        )
    header = FrameHeader(LABELS[label], quality, *rest)
    header = replace(header, codec=codec, key=bool(flags & FLAG_KEY))
    return header, message[HEADER_BYTES:]


@dataclass(frozen=True)
class Input:
    """The whole set of held keys (or a label outright) as one label; ``seq`` is the client's own
    counter."""

    seq: int
    label: str
    source: str


def label_of(keys: frozenset[str]) -> str:
    """The control label of a set of held keys (docs/reference.md section 9); opposite keys cancel,
    no key drives straight."""
    motion = "N" if "coast" in keys else "D"
    if "reverse" in keys:
        motion = "B"
    turn = ("left" in keys) - ("right" in keys)
    return motion + {1: "L", 0: "", -1: "R"}[turn]


def parse_object(text: str) -> Message:
    """One client message as a JSON object with a ``type``. Raises UserError with a line fit for the
    client."""
    if len(text) > LONGEST_MESSAGE:
        raise UserError(f"message: expected at most {LONGEST_MESSAGE} characters, got {len(text)}")
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise UserError("message: nested too deeply; expected an object of plain fields")
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise UserError(
            'message: expected a JSON object such as {"type": "ping"}, got something else'
        ) from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise UserError('message: expected a JSON object with a text field "type"')
    return message


def parse_hello(text: str) -> Message:
    """{"type": "hello", "client": "...", "token": "..."}: what a client says first."""
    hello = parse_object(text)
    if hello["type"] != "hello":
        raise UserError('expected {"type": "hello"} first')
    return hello


def parse_input(message: Message) -> Input:
    """{"type": "input", "seq": 7, "keys": ["left"], "source": "keyboard"}, or "label": "DL" in
    place of the keys."""
    seq = whole_number("seq", message.get("seq"), 0, LARGEST_NUMBER)
    source = text_field(message, "source", 32, default="client")
    if "label" in message:
        label = message["label"]
        if not isinstance(label, str) or label not in LABELS:
            raise UserError(
                f"input label: expected one of {', '.join(LABELS)}, got {quoted(label)}"
            )
        return Input(seq, label, source)
    keys = message.get("keys")
    if not isinstance(keys, list) or len(keys) > len(KEYS) or any(key not in KEYS for key in keys):
        raise UserError(f"input keys: expected a list of {', '.join(KEYS)}, got {quoted(keys)}")
    return Input(seq, label_of(frozenset(keys)), source)


def parse_replay(message: Message) -> Take:
    """{"type": "replay", "seed": 42, "parts": [{"prompt": "...", "controls": "D*16,DL*8"}]}: one
    label per latent."""
    parts = message.get("parts")
    if (
        not isinstance(parts, list)
        or not parts
        or not all(isinstance(part, dict) for part in parts)
    ):
        raise UserError("replay parts: expected a list of objects with prompt and controls")
    labels: list[str] = []
    prompts: list[str] = []
    for part in parts:
        controls = part.get("controls")
        if isinstance(controls, str) and _LONG_COUNT.search(controls):
            raise UserError(f"replay: expected at most {LONGEST_REPLAY} latents (one hour)")
        steered = parse_signal(controls)
        if len(labels) + len(steered) > LONGEST_REPLAY:
            raise UserError(f"replay: expected at most {LONGEST_REPLAY} latents (one hour)")
        labels += steered
        prompts += [check_prompt(part.get("prompt"))] * len(steered)
    return Take(check_seed(message.get("seed")), tuple(labels), tuple(prompts))


def take_parts(take: Take) -> list[dict[str, str]]:
    """The parts of a replay message: one per prompt, labels run-length coded. The inverse of
    ``parse_replay``."""
    together = groupby(zip(take.prompts, take.labels), key=itemgetter(0))
    return [
        {"prompt": prompt, "controls": write_signal(label for _, label in part)}
        for prompt, part in together
    ]


def milliseconds(message: Message, name: str) -> float:
    """A duration field between 0 and one minute."""
    return real_number(name, message.get(name), 0, 60_000)


def text_field(message: Message, name: str, longest: int, default: str) -> str:
    """An optional short text field, one printable line."""
    value = message.get(name, default)
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise UserError(
            f"{name}: expected a line of at most {longest} characters, got {quoted(value)}"
        )
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)

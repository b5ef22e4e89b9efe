"""Parsers of settings that are more than a number, a text or a path. A field names its own in its
metadata: ``field(default=None, metadata={PARSER: devices})``.

A parser gets where the value stands, for its message, and what stands there: a flag's text or list,
or a YAML value. It raises UserError.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from configs.errors import UserError
from configs.limits import check_path, home_path, quoted, real_number

PARSER: Final = "parser"
Parser = Callable[[str, object], object]

DEVICE = re.compile(r"[0-9]{1,3}|(GPU|MIG)-[A-Za-z0-9/-]{1,80}")


def devices(where: str, value: object) -> tuple[str, ...]:
    """The pool of GPUs: "0,2" -> ("0", "2"); empty, -1 and NoDevFiles mean none."""
    text = str(value)
    if text.strip() in ("", "-1", "NoDevFiles"):
        return ()
    pool = tuple(part.strip() for part in text.split(","))
    for device in pool:
        if not DEVICE.fullmatch(device):
            raise UserError(
                f"{where}: expected comma-separated GPU numbers such as 0,1,2, got {text[:60]!r}"
            )
    if len(set(pool)) < len(pool):
        raise UserError(f"{where}: expected each GPU once, got {text[:60]!r}")
    return pool


def host_names(where: str, value: object) -> tuple[str, ...]:
    """Split ``a.lan, b.lan``; RunConfig checks the names."""
    return tuple(part.strip() for part in str(value).split(","))


def tiny_decoder(where: str, value: object) -> tuple[str, Path]:
    """The pair ("tiny", TAECVX file)."""
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] != "tiny":
        raise UserError(f"{where}: expected 'tiny' and a TAECVX file, got {str(value)[:60]!r}")
    return "tiny", file_path(where, str(value[1]))


def lora_files(where: str, value: object) -> tuple[tuple[Path, float], ...]:
    """LoRA files with their scales: ["a.safetensors", "b.safetensors:0.8"], or one of them."""
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(_scaled(where, text) for text in given)


def _scaled(where: str, text: object) -> tuple[Path, float]:
    if not isinstance(text, str):
        raise UserError(f"{where}: expected FILE or FILE:SCALE, got {str(text)[:60]!r}")
    name, colon, number = text.rpartition(":")
    if not colon or "/" in number:
        return file_path(where, text), 1.0
    try:
        scale = float(number)
    except ValueError:
        raise UserError(
            f"{where} {name}: expected a number behind the ':', its scale, got {quoted(number)}"
        ) from None
    return file_path(where, name), real_number(f"{where} {name}: scale", scale, -100, 100)


def file_path(where: str, text: str) -> Path:
    """A path that no tool takes for an option; ``~`` is the home folder."""
    if not text.strip() or "\0" in text or text.startswith("-"):
        raise UserError(
            f"{where}: expected a path (./ before a name that starts with '-'), got {text[:60]!r}"
        )
    return check_path(home_path(text, where), where)

"""Which stage a weight folder is (docs/reference.md section 1.1), and how it streams."""

import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from configs.errors import UserError
from configs.schema import StreamSettings
from models.weights import read_json

STREAMING_FILE = "streaming.json"
BASE, LIVE = (1, 2), (3, 4)  # what makes base clips; what streams


def check_stage(folder: Path, wanted: str) -> None:
    """Raise UserError when a folder is known to be of another kind than ``wanted`` ("stage2" for
    base clips, "stage3" or "stage4" for streams)."""
    stage, why = _known_stage(folder)
    if stage is None or (stage in BASE) == (wanted == "stage2"):
        return
    does = "makes base clips" if stage in BASE else "streams"
    needed = "one that makes base clips (stage 2)" if stage in LIVE else "one that streams (3 or 4)"
    beside = folder.parent / wanted
    hint = f", such as {beside}" if beside.is_dir() else ""
    raise UserError(f"{folder}: this is stage {stage} ({why}), which {does}; give {needed}{hint}")


def read_streaming(path: Path, whole: bool, four_bytes: bool) -> StreamSettings:
    """How the weights of a folder stream: its streaming.json, else as published for its stage.

    whole: it holds every part, as the published stages 2 and 3 do. four_bytes: its transformer is
    stored in four-byte numbers, as the published stage 4 is.
    """
    own = path / STREAMING_FILE
    if not own.is_file():
        if _published_stage(path, whole, four_bytes) == 4:
            return StreamSettings()
        return StreamSettings(window_size=4, inference_steps=20, solver="dpm")
    values = read_json(own)
    known = [field.name for field in fields(StreamSettings)]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{own}: unknown key {key[:60]!a}; {hint}")
    try:
        return StreamSettings(**values)
    except (UserError, TypeError) as error:
        raise UserError(f"{own}: {error}") from None


def _known_stage(folder: Path) -> tuple[int | None, str]:
    """The stage of a folder and how it is known; None where nothing says."""
    settings = folder / STREAMING_FILE
    if settings.is_file() and read_json(settings).get("solver") == "consistency":
        return 4, f"says {STREAMING_FILE}"
    return _named_stage(folder), "by its name"


def _named_stage(folder: Path) -> int | None:
    match = re.fullmatch(r"stage([1-4])", folder.resolve().name)
    return int(match[1]) if match else None


def _published_stage(path: Path, whole: bool, four_bytes: bool) -> int:
    """The stage of a folder without settings: what it is called, where that and what it holds do
    not contradict each other; else what it holds."""
    named = _named_stage(path)
    holds = 3 if whole else 4
    if named is None:
        return holds
    if (named == 4) != (holds == 4) and four_bytes == (holds == 4):
        swapped = "stage 4's (a transformer alone, in four-byte numbers)"
        if whole:
            swapped = "stage 2's or 3's (every part, the transformer in two-byte numbers)"
        raise UserError(
            f"{path}: called stage{named}, but it holds what looks like {swapped}; put each stage "
            f"into its own folder, or say what it is in a {STREAMING_FILE}"
        )
    return named

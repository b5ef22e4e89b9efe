"""The control log (JSONL), which reproduces a drive: as it is written, and as it is read again."""

import functools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from actors.source import Take, WorldInfo
from configs.choice import check_engine
from configs.errors import UserError
from configs.files import parse_json, read_text
from configs.limits import check_output_file, check_prompt, check_seed
from models.controls import label_id

LOG_LIMIT: Final = 64 * 2**20  # bytes of a log to replay: most of a day
MOST_LATENTS: Final = 4_000_000  # of all its takes; each has those that it went back to
_UNSAID: Final = {"epoch": -1, "shown": True, "own_start": False}  # what a line need not say


class ControlLog:
    """Append-only JSONL: one self-contained line per shown latent."""

    def __init__(self, path: Path, info: WorldInfo) -> None:
        """Raises UserError if the file exists or its folder does not."""
        check_output_file(path, "control log")
        self.path = path
        own = {"own_start": True} if info.own_start else {}
        self._made_by = {"model": info.model_hash, "engine": info.engine, **own}
        self._lines = 0
        self._file: IO[str] | None = path.open("x", encoding="utf-8")

    def add(
        self, index: int, epoch: int, label: str, prompt: str, seed: int, shown: bool = True
    ) -> None:
        """Latent ``index`` of ``epoch`` was shown, or only led to what is shown from here on: its
        step was given ``label`` while ``prompt`` was in force."""
        if self._file is None:
            return
        line = {
            "index": index,
            "epoch": epoch,
            "label": label,
            "prompt": prompt,
            "seed": seed,
            **({} if shown else {"shown": False}),
            **self._made_by,
        }
        clocks = {"time": round(time.time(), 6), "monotonic": round(time.monotonic(), 6)}
        self._file.write(json.dumps(line | clocks) + "\n")
        self._lines += 1

    def flush(self) -> None:
        """What was added is in the file."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Idempotent. A log without a line is taken away."""
        file, self._file = self._file, None
        if file is not None:
            if not self._lines:
                self.path.unlink(missing_ok=True)
            file.close()


def read_control_log(path: Path, info: WorldInfo) -> list[Take]:
    """The takes of a control log, in order. A torn last line is ignored.

    Raises UserError for a file that is no control log, has a gap, or was made with another model.
    """
    lines = read_text(path, LOG_LIMIT, f"replay {path}").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1)]
    if not entries:
        raise UserError(
            f"replay {path}: expected a control log with at least one full line, got none"
        )
    for number, entry in enumerate(entries, 1):
        if entry["model"] != info.model_hash:
            raise UserError(f"replay {path}, line {number}: {_other_model(entry, info)}")
    return _takes(path, entries)


def _other_model(entry: Mapping[str, Any], info: WorldInfo) -> str:
    """Why a line of another stream's hash is none of this one's, and what to do. Of a start of one's
    own the hash tells no more than that it, or the weights, are others; older logs do not say
    whether there was one."""
    ours = f"this one is {info.name} ({info.model_hash[:12]})"
    if entry["own_start"] and not info.own_start:
        return (
            "the drive began at a picture of its own; give that picture with --start FILE, and its "
            "weights with MODEL_PATH if they were others"
        )
    if entry["own_start"]:
        return (
            f"made with another --start or other weights ({entry['model'][:12]}), {ours}; give the "
            "--start that it began with, and its weights with MODEL_PATH"
        )
    without = ", and leave --start out unless it had one" if info.own_start else ""
    return (
        f"made with another model ({entry['model'][:12]}), {ours}; choose its weights with "
        f"MODEL_PATH{without or ', and its --start'}"
    )


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"replay {path}, line {number}"
    try:
        entry = parse_json(line)
    except ValueError:
        raise UserError(f"{where}: expected a JSON object, got {line.strip()[:40]!a}") from None
    kinds = {"index": int, "label": str, "prompt": str, "seed": int, "model": str}
    for key, kind in (kinds | {"epoch": int, "shown": bool, "own_start": bool}).items():
        found = entry.get(key, _UNSAID.get(key)) if isinstance(entry, dict) else None
        if type(found) is not kind:
            raise UserError(
                f"{where}: expected {key!r} ({kind.__name__}), got {line.strip()[:60]!a}"
            )
    assert isinstance(entry, dict)
    try:
        label_id(entry["label"])
        check_seed(entry["seed"])
        prompt = _checked_prompt(entry["prompt"])
        engine = check_engine(entry.get("engine") or None) or ""  # older logs do not say it
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    texts = {key: sys.intern(entry[key]) for key in ("label", "model")}
    numbers = {key: entry[key] for key in ("index", "seed")}
    rest = {key: entry.get(key, unsaid) for key, unsaid in _UNSAID.items()}
    return {**numbers, **texts, **rest, "prompt": prompt, "engine": sys.intern(engine)}


@functools.lru_cache(maxsize=64)
def _checked_prompt(text: str) -> str:
    """The same few prompts stand in thousands of lines."""
    return check_prompt(text)


@dataclass
class _Drive:
    """Lines of one take from latent 0 on; those before ``first`` were not shown in it."""

    entries: list[dict[str, Any]]
    first: int = 0


def _takes(path: Path, entries: Sequence[dict[str, Any]]) -> list[Take]:
    """Split where the world began again (index 0) or went back (a lower index in a later epoch):
    there the latents before, of the take it went back in, belong to the new take, unshown."""
    drives: list[_Drive] = []
    latents = 0
    for number, entry in enumerate(entries, 1):
        where, index = f"replay {path}, line {number}", entry["index"]
        last = drives[-1].entries if drives else []
        if index == 0:
            drives.append(_Drive([]))
        elif 0 < index < len(last) and entry["epoch"] > last[-1]["epoch"]:
            drives.append(_Drive(last[:index], first=index))
            latents += index
        elif index != len(last):
            raise UserError(f"{where}: expected index {len(last)} or 0, got {index}")
        latents += 1
        if latents > MOST_LATENTS:
            raise UserError(f"{where}: over {MOST_LATENTS} latents, those it went back to included")
        _join(where, drives[-1], entry)
    return [_take(drive) for drive in drives if drive.first < len(drive.entries)]


def _join(where: str, drive: _Drive, entry: dict[str, Any]) -> None:
    """One more line of a drive. Raises UserError for one that cannot be of it."""
    for key in ("seed", "engine"):
        if drive.entries and entry[key] != drive.entries[0][key]:
            raise UserError(f"{where}: the {key} changes without a reset (index 0)")
    if not entry["shown"]:
        if drive.first < len(drive.entries):
            raise UserError(f"{where}: expected a latent that was shown, got one that was not")
        drive.first += 1
    drive.entries.append(entry)


def _take(drive: _Drive) -> Take:
    first = drive.entries[0]
    return Take(
        seed=first["seed"],
        labels=tuple(entry["label"] for entry in drive.entries),
        prompts=tuple(entry["prompt"] for entry in drive.entries),
        engine=first["engine"],
        first=drive.first,
    )

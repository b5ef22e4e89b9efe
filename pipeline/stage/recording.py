"""Recordings: exact frames as mp4, and the control log (JSONL) that reproduces them."""

import contextlib
import functools
import json
import queue
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from actors.source import Take, WorldInfo
from configs.choice import check_engine
from configs.errors import UserError
from configs.files import parse_json, read_text
from configs.limits import check_output_file, check_prompt, check_seed
from models.controls import label_id
from pipeline.video import VideoWriter

WAITING_FRAMES: Final = (
    160  # ten seconds: an encoder that falls further behind ends the recording, not the stream
)


_STEM = re.compile(r"[^\W_][\w .()-]{0,79}")  # no separator, no leading dot


LOG_LIMIT: Final = 64 * 2**20  # bytes of a log to replay: most of a day
MOST_LATENTS: Final = 4_000_000  # of all its takes; each has those that it went back to
_UNSAID: Final = {"epoch": -1, "shown": True}  # what a line need not say


class Recorder:
    """Writes frames to a fragmented mp4 in a thread of its own, so that a slow disk never delays
    the show."""

    def __init__(self, path: Path, info: WorldInfo) -> None:
        """Raises UserError if the file exists or its folder does not."""
        self.path = path
        self.frames = 0
        self.error = ""  # one line once writing has failed
        self._writer = VideoWriter(path, info.width, info.height, info.fps, fragmented=True)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(WAITING_FRAMES)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def add(self, image: np.ndarray) -> bool:
        """Queue one frame [H, W, 3]; False once the recording has failed (see ``error``)."""
        if self.error:
            return False
        try:
            self._queue.put_nowait(image)
        except queue.Full:
            self.error = f"the encoder of {self.path} fell {WAITING_FRAMES} frames behind"
            return False
        self.frames += 1
        return True

    def close(self) -> None:
        """Write what waits and finish the file (blocks; call it in a thread). Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _write(self) -> None:
        while (image := self._queue.get()) is not None:
            if not self.error:
                self._attempt(self._writer.write, image[None])
        self._attempt(self._writer.close)

    def _attempt(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.error = self.error or str(error)


class ControlLog:
    """Append-only JSONL: one self-contained line per shown latent."""

    def __init__(self, path: Path, info: WorldInfo) -> None:
        """Raises UserError if the file exists or its folder does not."""
        check_output_file(path, "control log")
        self.path = path
        self._made_by = {"model": info.model_hash, "engine": info.engine}
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


class Tape:
    """The drive that led to what is shown, and everything that is being written of it: videos and
    control logs."""

    def __init__(self, info: WorldInfo, folder: Path, seed: int) -> None:
        """folder: for recordings that name no path. seed: of the world that is shown."""
        self.seed = seed
        self.files: dict[str, Path] = {}  # of this run, for download
        self.failures: list[str] = []  # a line for every file that is not whole
        self.recorder: Recorder | None = None
        self._info = info
        self._folder = folder
        self._logs: list[ControlLog] = []
        self._own_log: ControlLog | None = None  # of the running recording
        self._labels: list[str] = []
        self._prompts: list[str] = []
        self._first = 0  # latents before this one led here and were not shown in this drive

    @property
    def writing(self) -> bool:
        """Whether a video or a control log is being written."""
        return self.recorder is not None or bool(self._logs)

    def take(self) -> Take:
        """The drive since latent 0."""
        return Take(self.seed, tuple(self._labels), tuple(self._prompts))

    def led(self, latent: int) -> Take:
        """The part of the drive that led to ``latent``."""
        return Take(self.seed, tuple(self._labels[:latent]), tuple(self._prompts[:latent]))

    def rewind(self, led: Take, epoch: int) -> list[str]:
        """The drive goes on behind ``led``: at latent 0, at an earlier one of its own, or where
        another drive led. Returns what `latent` returns."""
        count = len(led.labels)
        mine = self.led(count) == Take(led.seed, led.labels, led.prompts)
        self.seed = led.seed
        self._labels, self._prompts = list(led.labels), list(led.prompts)
        self._first = min(self._first, count) if mine else count
        return [] if mine else self._write(range(count), epoch)

    def latent(self, epoch: int, label: str, prompt: str) -> list[str]:
        """The next latent is shown; its step was given ``label`` while ``prompt`` was in force.
        Returns one line for every log that could not be written and is given up."""
        self._labels.append(label)
        self._prompts.append(prompt)
        return self._write(range(len(self._labels) - 1, len(self._labels)), epoch)

    def log(self, path: Path, epoch: int) -> ControlLog:
        """Write the drive so far, and from now on, to ``path``. Raises UserError if the file
        exists."""
        log = ControlLog(path, self._info)
        for index in range(len(self._labels)):
            self._add(log, index, epoch)
        log.flush()
        self._logs.append(log)
        return log

    def record(self, path: Path | None, epoch: int) -> Recorder:
        """Start a recording and its control log (same name, ``.jsonl``). Raises UserError."""
        if self.recorder is not None:
            raise UserError(
                f"recording: {self.recorder.path.name} is being recorded; stop it first"
            )
        path = path or self.free_name("drive", ".mp4")
        log = self.log(path.with_suffix(".jsonl"), epoch)
        try:
            self.recorder = Recorder(path, self._info)
        except UserError:
            self._drop(log)
            log.path.unlink()
            raise
        self._own_log = log
        self.files |= {path.name: path, log.path.name: log.path}
        return self.recorder

    def stop(self) -> Recorder | None:
        """Detach the running recording, whose ``close`` is still to be called (it blocks)."""
        recorder, self.recorder = self.recorder, None
        if self._own_log in self._logs:
            self._drop(self._own_log)
        self._own_log = None
        return recorder

    def free_name(self, kind: str, suffix: str) -> Path:
        """A name in the folder for files that were given none, such as drive-20261127-183000.mp4;
        the folder is made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = time.strftime(f"{kind}-%Y%m%d-%H%M%S")
        stems = (stem, *(f"{stem}-{n}" for n in range(2, 1000)))
        paths = (self._folder / f"{stem}{suffix}" for stem in stems)
        return next(
            path for path in paths if not path.exists() and not path.with_suffix(".jsonl").exists()
        )

    def delete(self, name: str) -> None:
        """Delete a saved world, or a finished recording and its control log, of this run. Raises
        UserError."""
        for path in self._pair(name):
            path.unlink(missing_ok=True)
            self.files.pop(path.name, None)

    def rename(self, name: str, stem: str) -> None:
        """Give a saved world, or a finished recording and its control log, another name in the same
        folder. Raises UserError."""
        if not _STEM.fullmatch(stem):
            raise UserError(
                "recording name: expected up to 80 letters, digits, spaces and - _ . ( ), "
                f"the first a letter or digit, got {stem[:80]!a}"
            )
        moves = [(path, path.with_name(stem + path.suffix)) for path in self._pair(name)]
        for _, new in moves:
            check_output_file(new, "recording")
        for path, new in moves:
            path.rename(new)
            self.files.pop(path.name, None)
            self.files[new.name] = new

    def _pair(self, name: str) -> list[Path]:
        """The video ``name`` and its control log, as far as they are there; or a saved world.
        Raises UserError."""
        video = self.files.get(name)
        if video is not None and video.suffix == ".world":
            return [video]
        if video is None or video.suffix != ".mp4":
            raise UserError(f"recording: this run has none called {name[:80]!a}")
        if self.recorder is not None and self.recorder.path == video:
            raise UserError(f"recording: {name} is being recorded; stop it first")
        return [path for path in (video, video.with_suffix(".jsonl")) if path.is_file()]

    def close(self) -> None:
        """Close the control logs."""
        for log in tuple(self._logs):
            self._drop(log)

    def _write(self, latents: range, epoch: int) -> list[str]:
        """Latents of the drive into every log."""
        failures: list[str] = []
        for log in tuple(self._logs):
            try:
                for index in latents:
                    self._add(log, index, epoch)
                log.flush()
            except OSError as error:
                self._drop(log)
                failures.append(f"control log {log.path} ended: {error.strerror or error}")
        self.failures += failures
        return failures

    def _add(self, log: ControlLog, index: int, epoch: int) -> None:
        label, prompt = self._labels[index], self._prompts[index]
        log.add(index, epoch, label, prompt, self.seed, shown=index >= self._first)

    def _drop(self, log: ControlLog | None) -> None:
        assert log is not None
        self._logs.remove(log)
        with contextlib.suppress(OSError):  # a full disk has been told already
            log.close()


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
            raise UserError(
                f"replay {path}, line {number}: made with another model ({entry['model'][:12]}), "
                f"this one is {info.name} ({info.model_hash[:12]}); choose its weights with MODEL_PATH, and its --start"
            )
    return _takes(path, entries)


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"replay {path}, line {number}"
    try:
        entry = parse_json(line)
    except ValueError:
        raise UserError(f"{where}: expected a JSON object, got {line.strip()[:40]!a}") from None
    kinds = {"index": int, "label": str, "prompt": str, "seed": int, "model": str}
    for key, kind in (kinds | {"epoch": int, "shown": bool}).items():
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

"""The files of one journal, as they are written: a log that only grows, and snapshots.

What is on the disk is whole at any byte: snapshots and shortened logs appear by a rename, and a log
that is cut anywhere lacks its last record. Every call may wait for the disk (journal.py does not).
"""

import os
import re
import time
from pathlib import Path
from typing import IO, Final

from actors.journal.records import LOG, Head, Record, write_record
from actors.journal.story import Story
from actors.moments import snapshot_of
from actors.timeline import Commit
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.controls import MAX_SIGNAL
from models.snapshot import SUFFIX

EVERY: Final = 16  # latents between two snapshots
KEPT: Final = 17  # snapshots: more than a minute of them
KEPT_BYTES: Final = 256 << 20  # of all of them; never fewer than two are kept
LONG: Final = 1 << 20  # bytes of a log that is worth shortening
SYNC_SECONDS: Final = 1.0  # what a power loss may cost of the log

_SNAPSHOT: Final = re.compile(rf"([0-9]{{1,16}})-([0-9]{{1,7}})\{SUFFIX}")


class Scribe:
    """Writes into ``folder``, which is there and ours. ``story``: what a journal that goes on has
    told already."""

    def __init__(self, folder: Path, head: Head, checkpoint: Checkpoint, story: Story) -> None:
        self.folder, self.story = folder, story
        self._head, self.checkpoint = head, checkpoint
        self._log: IO[bytes] | None = None
        self._first = 0  # latents before it are not in the log
        self._synced = 0.0

    def open(self) -> None:
        """Begin a log that tells the story so far. Raises OSError."""
        kept = [index for stream, index in snapshots(self.folder) if stream == self.story.stream]
        self._first = min(kept, default=0)
        self.close()
        for leftover in self.folder.glob(".*"):  # of a writer that was killed
            leftover.unlink()
        part = self.folder / f".{LOG}"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for record in (self._head, *self.story.records(self._first)):
                file.write(write_record(record))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / LOG)
        settle(self.folder)
        self._log = (self.folder / LOG).open("ab", buffering=0)
        self._synced = time.monotonic()

    @property
    def keeps(self) -> bool:
        """Whether the log is open: else the story goes on and nothing is written."""
        return self._log is not None

    def write(self, record: Record) -> None:
        """The next record. Raises OSError, and UserError for a drive of several days."""
        self.story.take(record)
        if self._log is None:
            return
        if self.story.next > MAX_SIGNAL:
            raise UserError(f"a drive is kept up to {MAX_SIGNAL} latents")
        if self._log.tell() > LONG:
            return self.open()
        data = write_record(record)
        if self._log.write(data) != len(data):
            raise OSError("the log could not be written whole")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fdatasync(self._log.fileno())
            self._synced = time.monotonic()

    def turn_to(self, story: Story, commit: Commit | None) -> None:
        """Another stream begins within a drive that led there: from ``commit`` on it can be made
        again. Raises OSError, UserError."""
        self.story = story
        if commit is not None and commit.state is not None:
            self._snapshot(commit)
        self.open()
        self._forget()

    def save(self, commit: Commit) -> None:
        """A snapshot of a moment of the story. Raises OSError, and UserError when it cannot be
        written."""
        self._snapshot(commit)
        self._forget()

    def _snapshot(self, commit: Commit) -> None:
        story = self.story
        labels = story.labels[: commit.index]
        prompts = [prompt for prompt in story.prompts if prompt[0] < commit.index]
        snapshot = snapshot_of(commit, labels, prompts, self.checkpoint)
        path = snapshot_path(self.folder, story.stream, commit.index)
        snapshot.save(path, self.checkpoint, self._head.engine, overwrite=True, private=True)
        settle(self.folder)

    def close(self) -> None:
        """Keep nothing from now on. Idempotent. Raises OSError."""
        log, self._log = self._log, None
        if log is not None:
            with log:
                os.fdatasync(log.fileno())

    def _forget(self) -> None:
        """Delete the snapshots of other streams, and the oldest ones."""
        size = mine = 0
        for stream, index in reversed(snapshots(self.folder)):
            path = snapshot_path(self.folder, stream, index)
            size += path.stat().st_size
            mine += stream == self.story.stream
            old = mine > KEPT or (size > KEPT_BYTES and mine > 2)
            if stream != self.story.stream or old:
                path.unlink()


def settle(folder: Path) -> None:
    """Names that appeared in a folder outlive a power loss. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def snapshot_path(folder: Path, stream: int, latent: int) -> Path:
    """Where a journal keeps where a stream stood before a latent."""
    return folder / f"{stream}-{latent}{SUFFIX}"


def snapshots(folder: Path) -> list[tuple[int, int]]:
    """(stream, latent) of the snapshots in a journal, in order."""
    names = (_SNAPSHOT.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(name[1]), int(name[2])) for name in names if name)

"""Where journals lie: a folder of this user alone, and in it a folder for each, locked while its
session lives."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.journal.records import LOG, Ended, read_last
from configs.errors import UserError

LOCK: Final = "lock"
TIDY: Final = ".tidy"
IDLE: Final = 8  # journals of sessions that do not live, if they ended or are few
CUT_OFF: Final = 64  # of them that were cut off: as many as one launcher has worlds
IDLE_BYTES: Final = 1 << 30  # of all of them
EMPTY_SECONDS: Final = 3600.0  # after which a folder without a log is nobody's
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Absent(UserError):
    """There is no journal of a name."""


class Lives(UserError):
    """The session of a journal lives."""


@dataclass(frozen=True)
class Found:
    """A journal's folder, and whether its session was told to end; ``refused``: why nobody can have
    it now, by which nothing is known of its end."""

    folder: Path
    ended: bool = False
    refused: UserError | None = None


class Place:
    """One journal's folder, locked: nobody else writes, goes on from or deletes it."""

    def __init__(self, folder: Path) -> None:
        """Raises Lives when another launcher has it, OSError when it is not there."""
        self.folder = folder
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink == 0:
                raise FileNotFoundError(f"{folder} was deleted")
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise Lives(f"{folder.name}: its session lives") from None
            raise
        self._handle: int | None = handle

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def held(self) -> bool:
        """Whether it is still locked."""
        return self._handle is not None

    def leave(self) -> None:
        """Others may have it. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.leave()


class StateFolder:
    """The journals of one user. Several launchers may share it."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there. Raises UserError when it cannot be one that only this
        user can write to."""
        self.path = path
        try:
            path.mkdir(0o700, parents=True, exist_ok=True)
            _check_private(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"state folder {path}: cannot be used ({reason})") from None

    def names(self) -> list[str]:
        """Journals, oldest first: by when something was last noted."""
        found: list[tuple[float, str]] = []
        for folder in self._folders():
            with contextlib.suppress(OSError):  # taken away meanwhile, or nothing in it yet
                found.append((os.lstat(folder / LOG).st_mtime, folder.name))
        return [name for _, name in sorted(found)]

    def new(self) -> Place:
        """A journal for a new session; the oldest ones of others that do not live go. Raises
        UserError."""
        with self._alone():
            self._make_room()
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder = self.path / name
        try:
            folder.mkdir(0o700)
            return Place(folder)
        except OSError as error:
            raise UserError(f"state folder {self.path}: {error.strerror}") from None

    def hold(self, name: str) -> Place:
        """A journal to go on from. Raises UserError."""
        with self._alone():
            return self._hold(name)

    def _hold(self, name: str) -> Place:
        folder = self.path / name
        if not NAME.fullmatch(name) or not (folder / LOG).is_file():
            known = ", ".join(self.names()[-IDLE:]) or "none"
            raise Absent(f"no journal {name[:80]!a} in {self.path}; there are: {known}")
        try:
            _check_private(folder)
            return Place(folder)
        except OSError as error:
            raise UserError(f"journal {folder}: {error.strerror or error}") from None

    def hold_newest(
        self,
        is_empty: Callable[[Path], bool] = lambda folder: False,
        refused: Callable[[str], object] = lambda why: None,
    ) -> Place:
        """The one that was written last, of those that can be had and whose folder is not empty in
        this sense; ``refused`` hears in a line each why newer ones cannot. Raises UserError."""
        reasons = []
        with self._alone():
            for name in reversed(self.names()):
                try:
                    place = self._hold(name)
                except Absent:  # deleted meanwhile
                    continue
                except UserError as error:
                    reasons.append(str(error))
                    refused(reasons[-1])
                    continue
                if not is_empty(place.folder):
                    return place
                place.leave()
        why = f": {reasons[0]}" if reasons else ""
        raise UserError(f"no drive in {self.path} that can go on{why}")

    def look(self) -> list[Found]:
        """All of them, the newest first."""
        found = []
        with self._alone():
            for name in reversed(self.names()):
                try:
                    place = self._hold(name)
                except Absent:
                    continue
                except UserError as error:
                    found.append(Found(self.path / name, refused=error))
                    continue
                found.append(Found(place.folder, was_ended(place.folder)))
                place.leave()
        return found

    def idle(self) -> list[tuple[Path, bool]]:
        """The folders of those that can be had, the newest first, and whether its session was told
        to end."""
        return [(each.folder, each.ended) for each in self.look() if each.refused is None]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other launcher tidies up, which holds every idle journal for a moment."""
        try:
            handle = os.open(self.path / TIDY, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UserError(f"state folder {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _make_room(self) -> None:
        """Keep some journals of sessions that do not live: rather those that were cut off than
        those that ended, and the newest ones."""
        places: list[tuple[bool, Place]] = []
        for name in reversed(self.names()):
            with contextlib.suppress(UserError):
                place = self._hold(name)
                places.append((was_ended(place.folder), place))
        size = 0
        for count, (ended, place) in enumerate(sorted(places, key=lambda each: each[0]), 1):
            with contextlib.suppress(OSError):  # a person deletes it, right now
                size += sum(file.lstat().st_size for file in place.folder.iterdir())
            many = count >= IDLE if ended else count > CUT_OFF
            place.remove() if many or size > IDLE_BYTES else place.leave()
        self._sweep()

    def _sweep(self) -> None:
        """Take away what a launcher that died at its start left."""
        for folder in self._folders():
            with contextlib.suppress(OSError):
                old = time.time() - folder.stat().st_mtime > EMPTY_SECONDS
                if old and not (folder / LOG).exists():
                    (folder / LOCK).unlink(missing_ok=True)
                    folder.rmdir()

    def _folders(self) -> Iterator[Path]:
        for entry in os.scandir(self.path):
            if NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield self.path / entry.name


def was_ended(folder: Path) -> bool:
    """Whether the session of a journal ended because it was told to."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 12)))
            return isinstance(read_last(file.read()), Ended)
    except (OSError, UserError):  # or of a later version: nothing says that it ended
        return False


def _check_private(folder: Path) -> None:
    """Raise OSError unless it is a folder of ours that nobody else can write to."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(handle)
    finally:
        os.close(handle)
    if status.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to somebody else")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, f"others may write there; chmod go-w {folder}")

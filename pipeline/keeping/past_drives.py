"""The drives in a state folder that can go on with some weights."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.journal.drive import check_fits, read_head, read_log
from actors.journal.place import Lives, StateFolder
from actors.journal.records import LOG, EmptyLog
from actors.journal.story import Story
from configs.errors import UserError
from configs.geometry import LATENTS_PER_SECOND
from configs.schema import ALL_DRIVES
from models.checkpoint import Checkpoint
from pipeline.beginning import check_world_name
from pipeline.host import OWN, PastDrive, Whose

NAMED: Final = 3  # drives that are left out of those that go on together

Stamp = tuple[int, int]  # when a log was noted in last, in nanoseconds, and its bytes


@dataclass(frozen=True)
class LeftOut:
    """A drive that cannot go on: ``why`` in one line, "" where nothing was made in it. launcher: as
    in PastDrive, if it is known; lives: its session does."""

    why: str = ""
    launcher: str = ""
    known: bool = False
    ended: bool = False
    lives: bool = False


class PastDrives:
    """As their logs tell, each of which is read again only when something was noted in it. All
    calls block."""

    def __init__(self, state: StateFolder, checkpoint: Checkpoint) -> None:
        self._state = state
        self._checkpoint = checkpoint
        self._known: dict[str, tuple[Stamp, PastDrive | LeftOut]] = {}

    def all(self) -> list[PastDrive]:
        """Of sessions that do not live, the newest first."""
        return [drive for drive in self._find() if isinstance(drive, PastDrive)]

    def cut_off_together(self, say: Callable[[str], object] = lambda line: None) -> list[PastDrive]:
        """The drive that was cut off last and those of the same launcher, its own first; ``say``
        hears in one line which are left out, if any. Raises UserError when there is none."""
        found = [each for each in self._find() if not each.ended]
        cut = [each for each in found if isinstance(each, PastDrive)]
        if not cut:
            raise UserError(self._none([each for each in found if isinstance(each, LeftOut)]))
        launcher, newest = cut[0].launcher, found.index(cut[0])
        left = [
            each.why
            for place, each in enumerate(found)
            if isinstance(each, LeftOut) and each.why and not each.lives
            if place < newest or not each.known or (launcher and each.launcher == launcher)
        ]
        if left:
            say(f"left out: {some(left)}")
        together = [each for each in cut[1:] if each.launcher and each.launcher == launcher]
        return sorted([cut[0], *together], key=lambda each: each.whose.id != OWN)

    def unfinished(self) -> str:
        """One line of the newest drive that was cut off, of whatever weights, and of those that go
        on with it; "" for none."""
        broken = ""
        for folder, ended in self._state.idle():
            if ended:
                continue
            try:
                _, story = read_log(folder)
            except EmptyLog:
                continue
            except UserError as error:
                broken = broken or f"a drive was cut off and cannot go on: {error}"
                continue
            if story.next:
                return self._how(folder.name, story)
        return broken

    def _how(self, journal: str, story: Story) -> str:
        """The line of a drive that was cut off. It is named: once this start has a drive too, that
        one is the newest."""
        how = f"--continue {journal}"
        if others := self._others(journal):
            how += f", {others} more of that launcher with it by --continue {ALL_DRIVES}"
        return (
            f"a drive was cut off {story.next / LATENTS_PER_SECOND:.0f} s in "
            f"({story.prompt[:60]}); it goes on with {how}"
        )

    def _others(self, journal: str) -> int:
        """How many go on with it."""
        with contextlib.suppress(UserError):
            together = [drive.journal for drive in self.cut_off_together()]
            return len(together) - 1 if journal in together else 0
        return 0

    def _none(self, left: Sequence[LeftOut]) -> str:
        """Why none that was cut off goes on."""
        folder = self._state.path
        for each in left:
            if each.why and not each.lives:
                return f"no drive in {folder} that was cut off can go on: {each.why}"
        lives = next((f" ({each.why})" for each in left if each.lives), "")
        return f"no drive in {folder} was cut off{lives}; --continue NAME takes up any other"

    def _find(self) -> list[PastDrive | LeftOut]:
        """What all journals tell, the newest first."""
        found: list[PastDrive | LeftOut] = []
        known = {}
        for each in self._state.look():
            if each.refused is not None:
                found.append(LeftOut(str(each.refused), lives=isinstance(each.refused, Lives)))
            elif told := self._look(each.folder, each.ended):
                known[each.folder.name] = told
                found.append(told[1])
        self._known = known
        return found

    def _look(self, folder: Path, ended: bool) -> tuple[Stamp, PastDrive | LeftOut] | None:
        """What a journal tells, and when it was noted; None for one that is gone."""
        try:
            status = (folder / LOG).stat()
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size
        known = self._known.get(folder.name)
        if known is not None and known[0] == stamp:
            return known
        return stamp, self._told(folder, ended, status.st_mtime)

    def _told(self, folder: Path, ended: bool, noted: float) -> PastDrive | LeftOut:
        try:
            head, story = read_log(folder)
        except EmptyLog:
            return LeftOut(ended=ended)
        except UserError as error:
            whose = read_head(folder)
            return LeftOut(str(error), whose.launcher if whose else "", whose is not None, ended)
        if not story.next:
            return LeftOut(ended=ended)
        try:
            check_fits(head, self._checkpoint)
        except UserError as error:
            return LeftOut(f"journal {folder.name}: {error}", head.launcher, True, ended)
        return PastDrive(
            journal=folder.name,
            whose=Whose(head.world, _named(head.name)),
            launcher=head.launcher,
            prompt=story.prompt,
            seed=story.seed,
            seconds=story.next / LATENTS_PER_SECOND,
            ended=ended,
            noted=noted,
        )


def some(reasons: Sequence[str]) -> str:
    """The first of them in one line, and how many more there are."""
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"{'; '.join(reasons[:NAMED])}{more}"


def _named(name: str) -> str:
    """The name of a world as it lay in a log; "" for one that no world could have."""
    with contextlib.suppress(UserError):
        return check_world_name(name)
    return ""

"""The drives in a state folder that can go on with some weights."""

import contextlib
from pathlib import Path

from actors.journal.drive import read_log, start_of
from actors.journal.place import StateFolder
from actors.journal.records import LOG
from actors.journal.story import Story
from configs.errors import UserError
from configs.geometry import LATENTS_PER_SECOND
from configs.schema import ALL_DRIVES
from models.checkpoint import Checkpoint
from pipeline.beginning import check_world_name
from pipeline.host import OWN, PastDrive, Whose

Stamp = tuple[int, int]  # when a log was noted in last, in nanoseconds, and its bytes


class PastDrives:
    """As their logs tell, each of which is read again only when something was noted in it. All
    calls block."""

    def __init__(self, state: StateFolder, checkpoint: Checkpoint) -> None:
        self._state = state
        self._weights = checkpoint.world_hash, start_of(checkpoint)
        self._known: dict[str, tuple[Stamp, PastDrive | None]] = {}

    def all(self) -> list[PastDrive]:
        """Of sessions that do not live, the newest first."""
        known = {folder.name: self._look(folder, ended) for folder, ended in self._state.idle()}
        self._known = {name: found for name, found in known.items() if found}
        return [drive for _, drive in self._known.values() if drive]

    def cut_off_together(self) -> list[PastDrive]:
        """The drive that was cut off last and those of the same launcher, its own first. Raises
        UserError when there is none."""
        cut = [drive for drive in self.all() if not drive.ended]
        if not cut:
            raise UserError(
                f"no drive in {self._state.path} was cut off; --continue NAME takes up any other"
            )
        together = [each for each in cut[1:] if each.launcher and each.launcher == cut[0].launcher]
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

    def _look(self, folder: Path, ended: bool) -> tuple[Stamp, PastDrive | None] | None:
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

    def _told(self, folder: Path, ended: bool, noted: float) -> PastDrive | None:
        """None where there is nothing to go on from, or not with these weights."""
        try:
            head, story = read_log(folder)
        except UserError:
            return None
        if (head.weights, head.start) != self._weights or not story.next:
            return None
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


def _named(name: str) -> str:
    """The name of a world as it lay in a log; "" for one that no world could have."""
    with contextlib.suppress(UserError):
        return check_world_name(name)
    return ""

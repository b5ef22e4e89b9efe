"""What is kept of the worlds of a launcher, and the drives of others that go on here."""

import contextlib
import secrets
import time
from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from actors.journal.drive import Drive, read_drive, read_log, start_of
from actors.journal.journal import Journal
from actors.journal.kept import KeptSession
from actors.journal.place import Place, StateFolder, was_ended
from actors.journal.records import LOG, Head
from actors.journal.story import Story
from actors.session import Session
from actors.source import ChunkSource
from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from configs.load import state_folder
from configs.schema import ALL_DRIVES, RunConfig
from models.checkpoint import Checkpoint
from pipeline.beginning import check_world_name
from pipeline.host import OWN, PastDrive, Whose
from pipeline.run_files import RunFiles
from pipeline.stage.show import Show

NAMES: Final = 1000  # of recordings that go on


@dataclass(frozen=True)
class HeldDrive:
    """A drive that goes on here: its journal is ours."""

    place: Place
    drive: Drive

    @staticmethod
    def of(place: Place, checkpoint: Checkpoint) -> "HeldDrive":
        """The drive of a journal, whose place is left where it cannot go on. Raises UserError."""
        try:
            return HeldDrive(place, read_drive(place.folder, checkpoint))
        except BaseException:
            place.leave()
            raise

    def recording(self) -> Path | None:
        """Where a recording that was cut off goes on: a free name beside it; None: there was
        none."""
        if not self.drive.story.recording:
            return None
        cut = Path(self.drive.story.recording)
        names = (cut.with_stem(f"{cut.stem}-{number}") for number in range(2, NAMES))
        return next(p for p in names if not p.exists() and not p.with_suffix(".jsonl").exists())

    def summary(self, recording: Path | None) -> dict[str, Any]:
        """What the summary of a run says of it: the seam is before ``frame``, counted from its
        reset; of two recordings the second, ``recording``, begins there."""
        frame, cut = self.drive.shown * FRAMES_PER_LATENT, self.drive.story.recording
        files = [cut, str(recording)] if cut and recording is not None else []
        return {"continued": {"journal": self.drive.name, "frame": frame, "recordings": files}}


def _launcher() -> str:
    return secrets.token_hex(8)


@dataclass
class Keeping:
    """``state`` None: nothing is kept. ``held`` goes on in the first session, ``others`` beside it.
    ``notes``: lines to be said at the start. ``launcher``: what our journals call us."""

    state: StateFolder | None
    held: HeldDrive | None = None
    others: tuple[PastDrive, ...] = ()
    notes: list[str] = field(default_factory=list)
    launcher: str = field(default_factory=_launcher, compare=False)

    @staticmethod
    def of(config: RunConfig, checkpoint: Checkpoint) -> "Keeping":
        """What the settings say. Raises UserError for a state folder that was asked for and cannot
        be one, and for a drive that cannot go on."""
        if config.no_state:
            return Keeping(None)
        try:
            state = StateFolder(config.state or state_folder())
        except UserError as error:
            if config.state is not None or config.go_on is not None:
                raise
            return Keeping(None, notes=[f"{error}: the drive is not kept"])
        if config.go_on is None:
            return Keeping(state, notes=[line] if (line := unfinished(state)) else [])
        others: tuple[PastDrive, ...] = ()
        launcher = _launcher()
        if config.go_on == ALL_DRIVES:
            first, *rest = cut_off_together(state, checkpoint)
            place, others = state.hold(first.journal), tuple(rest)
            # those that still wait for room when this one dies too belong together with the others
            launcher = first.launcher or launcher
        else:
            place = state.hold(config.go_on) if config.go_on else state.hold_newest()
        held = HeldDrive.of(place, checkpoint)
        drive = held.drive
        note = f"going on with {place.name} where it was shown last, {_seconds(drive.shown)} s in"
        return Keeping(state, held, others, [note], launcher)

    @property
    def drive(self) -> Drive | None:
        """The one that goes on in the first session."""
        return self.held.drive if self.held else None

    def session(
        self,
        session: Session,
        checkpoint: Checkpoint,
        whose: Whose,
        held: HeldDrive | None = None,
    ) -> ChunkSource:
        """A session that is kept from now on; with ``held`` that drive goes on in it."""
        if self.state is None:
            return session
        engine = session.info.engine
        if held is not None:
            head = replace(self._head(held.drive.head, whose), engine=engine)
            journal = Journal(held.place, head, checkpoint, held.drive.story)
            warning = other_engine({held.drive.head.engine}, engine)
            if warning and held is not self.held:  # else Launch says it
                journal.note(warning)
            return KeptSession(session, journal, held.drive)
        head = Head(
            checkpoint.name,
            checkpoint.world_hash,
            engine,
            time.time(),
            start=start_of(checkpoint),
        )
        try:
            return KeptSession(
                session, Journal(self.state.new(), self._head(head, whose), checkpoint)
            )
        except UserError as error:
            self.notes.append(f"{error}: the drive is not kept")
            return session

    def take_up(self, journal: str, checkpoint: Checkpoint) -> HeldDrive:
        """The drive of a journal, which is ours from now on. Blocks. Raises UserError."""
        if self.state is None:
            raise UserError("nothing is kept here, and no drive can go on")
        return HeldDrive.of(self.state.hold(journal), checkpoint)

    def drives(self, checkpoint: Checkpoint) -> list[PastDrive]:
        """Those that can go on with these weights, the newest first. Blocks."""
        return [] if self.state is None else past_drives(self.state, checkpoint)

    def files(self, files: RunFiles) -> RunFiles:
        """The files of this run: a recording that was cut off goes on beside itself."""
        if files.record is None and self.held is not None:
            files = replace(files, record=self.held.recording())
            files.check()
        return files

    def _head(self, head: Head, whose: Whose) -> Head:
        return replace(head, launcher=self.launcher, world=whose.id, name=whose.name)


async def note_recordings(show: Show) -> None:
    """Tell a kept session of every recording of its show, until the show ends."""
    if not isinstance(show.source, KeptSession):
        return
    subscription = show.subscribe(viewer=False)
    while await subscription.wait():
        subscription.frame()
        for event in subscription.events():
            if event.kind == "record":
                path = show.recordings.files.get(event.data["name"])
                going = event.data["state"] == "started" and path is not None
                show.source.recorded(str(path.absolute()) if going and path else "")


def other_engine(made_with: Set[str], name: str) -> str:
    """A warning for drives that were made with other engines than this one; "" for none. An engine
    "" is not known."""
    others = sorted(made_with - {"", name})
    if not others:
        return ""
    return (
        f"warning: the drive was made with engine {', '.join(others)}; with {name} its frames are "
        "close, not equal"
    )


def past_drives(state: StateFolder, checkpoint: Checkpoint) -> list[PastDrive]:
    """Drives that can go on with these weights, as their logs tell, the newest first."""
    found = []
    for folder, ended in state.idle():
        try:
            head, story = read_log(folder)
            noted = (folder / LOG).stat().st_mtime
        except (OSError, UserError):  # deleted meanwhile; or nothing to go on from
            continue
        ours = (head.weights, head.start) == (checkpoint.world_hash, start_of(checkpoint))
        if ours and story.next:
            found.append(_told(folder.name, head, story, ended, noted))
    return found


def cut_off_together(state: StateFolder, checkpoint: Checkpoint) -> list[PastDrive]:
    """The drive that was cut off last and those of the same launcher, its own first. Raises
    UserError when there is none."""
    cut = [drive for drive in past_drives(state, checkpoint) if not drive.ended]
    if not cut:
        raise UserError(f"no drive in {state.path} was cut off; --continue NAME takes up any other")
    together = [each for each in cut[1:] if each.launcher and each.launcher == cut[0].launcher]
    return sorted([cut[0], *together], key=lambda each: each.whose.id != OWN)


def unfinished(state: StateFolder) -> str:
    """One line of the drive that was written last, if it was cut off, and of those that lived with
    it; "" for none."""
    name = next(reversed(state.names()), None)
    if name is None:
        return ""
    try:
        place = state.hold(name)
    except UserError:
        return ""  # its session lives
    try:
        if was_ended(place.folder):
            return ""
        head, story = read_log(place.folder)
    except UserError as error:
        return f"a drive was cut off and cannot go on: {error}"
    finally:
        place.leave()
    how = f"--continue{'' if len(state.names()) == 1 else f' {name}'}"
    others = sum(_is_of(head.launcher, folder) for folder, ended in state.idle() if not ended) - 1
    if others > 0:
        how += f", {others} more of that launcher with it by --continue {ALL_DRIVES}"
    return (
        f"a drive was cut off {_seconds(story.next)} s in ({story.prompt[:60]}); "
        f"it goes on with {how}"
    )


def _is_of(launcher: str, folder: Path) -> bool:
    try:
        return bool(launcher) and read_log(folder)[0].launcher == launcher
    except UserError:
        return False


def _told(journal: str, head: Head, story: Story, ended: bool, noted: float) -> PastDrive:
    return PastDrive(
        journal=journal,
        whose=Whose(head.world, _known(head.name)),
        launcher=head.launcher,
        prompt=story.prompt,
        seed=story.seed,
        seconds=story.next / LATENTS_PER_SECOND,
        ended=ended,
        noted=noted,
    )


def _known(name: str) -> str:
    """The name of a world as it lay in a log; "" for one that no world could have."""
    with contextlib.suppress(UserError):
        return check_world_name(name)
    return ""


def _seconds(latents: int) -> str:
    return f"{latents / LATENTS_PER_SECOND:.0f}"

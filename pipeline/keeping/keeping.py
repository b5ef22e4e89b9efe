"""What is kept of the worlds of a launcher, and the drives of others that go on here."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from actors.journal.drive import is_empty, start_of
from actors.journal.journal import Journal
from actors.journal.kept import KeptSession
from actors.journal.place import Place, StateFolder
from actors.journal.records import Head
from actors.session import Session
from actors.source import ChunkSource
from configs.errors import UserError
from configs.geometry import LATENTS_PER_SECOND
from configs.load import state_folder
from configs.schema import ALL_DRIVES, RunConfig
from models.checkpoint import Checkpoint
from pipeline.host import OWN, PastDrive, Whose
from pipeline.keeping.held_drive import HeldDrive
from pipeline.keeping.past_drives import PastDrives, some
from pipeline.stage.show import Show
from pipeline.stage.takes import other_engine

logger = logging.getLogger(__name__)


def _launcher() -> str:
    return secrets.token_hex(8)


def _newest(state: StateFolder, say: Callable[[str], object]) -> Place:
    """The newest drive that can be had; ``say`` hears in one line which are passed over, if any.
    Raises UserError."""
    reasons: list[str] = []
    place = state.hold_newest(is_empty, reasons.append)
    if reasons:
        say(f"passed over: {some(reasons)}")
    return place


@dataclass
class Keeping:
    """``state`` None: nothing is kept. ``past``: what can go on from there. ``held`` goes on in the
    first session, ``others`` beside it. ``notes``: lines to be said at the start. ``launcher``: what
    our journals call us."""

    state: StateFolder | None
    past: PastDrives | None = None
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
        past = PastDrives(state, checkpoint)
        if config.go_on is None:
            return Keeping(state, past, notes=[line] if (line := past.unfinished()) else [])
        others: tuple[PastDrive, ...] = ()
        launcher = _launcher()
        left: list[str] = []
        if config.go_on == ALL_DRIVES:
            first, *rest = past.cut_off_together(left.append)
            place, others = state.hold(first.journal), tuple(rest)
            # those that still wait for room when this one dies too belong together with the others
            launcher = first.launcher or launcher
        elif config.go_on:
            place = state.hold(config.go_on)
        else:
            place = _newest(state, left.append)
        held = HeldDrive.of(place, checkpoint)
        shown = held.drive.shown / LATENTS_PER_SECOND
        note = f"going on with {place.name} where it was shown last, {shown:.0f} s in"
        unrecorded = "" if config.record else held.beside()[1]
        notes = [line for line in (note, unrecorded, *left) if line]
        return Keeping(state, past, held, others, notes, launcher)

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
            if held is not self.held:  # else Launch says it
                warnings = other_engine([held.drive.take], engine), held.beside()[1]
                for warning in filter(None, warnings):
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
            if whose.id == OWN:  # said with all else of the start
                self.notes.append(f"{error}: the drive is not kept")
            else:
                logger.warning("%s is not kept: %s", whose.name, error)
            return session

    def take_up(self, journal: str, checkpoint: Checkpoint) -> HeldDrive:
        """The drive of a journal, which is ours from now on. Blocks. Raises UserError."""
        if self.state is None:
            raise UserError("nothing is kept here, and no drive can go on")
        return HeldDrive.of(self.state.hold(journal), checkpoint)

    def drives(self) -> list[PastDrive]:
        """Those that can go on with these weights, the newest first. Blocks."""
        return [] if self.past is None else self.past.all()

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

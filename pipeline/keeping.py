"""What is kept of the worlds of a launcher, and the drive of another that goes on here."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from actors.journal.drive import Drive, read_drive, read_log
from actors.journal.journal import Journal
from actors.journal.kept import Kept
from actors.journal.place import Place, StateFolder, was_ended
from actors.journal.records import Head
from actors.session import Session
from actors.source import ChunkSource
from configs.errors import UserError
from configs.geometry import LATENTS_PER_SECOND
from configs.load import state_folder
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from pipeline.run_files import RunFiles
from pipeline.stage.show import Show

NAMES: Final = 1000  # of recordings that go on


@dataclass
class Keeping:
    """``state`` None: nothing is kept. ``drive`` goes on in the first session; its ``place`` is
    ours. ``notes``: lines to be said at the start."""

    state: StateFolder | None
    place: Place | None = None
    drive: Drive | None = None
    notes: list[str] = field(default_factory=list)
    recordings: list[Path] = field(default_factory=list)  # of the drive that goes on

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
        place = state.hold(config.go_on) if config.go_on else state.hold_newest()
        drive = read_drive(place.folder, checkpoint)
        note = f"going on with {place.name} where it was shown last, {_seconds(drive.shown)} s in"
        return Keeping(state, place, drive, [note])

    def session(self, session: Session, checkpoint: Checkpoint, engine: str) -> ChunkSource:
        """A session that is kept from now on, the first one with the drive that goes on."""
        if self.state is None:
            return session
        place, self.place = self.place, None
        if place is not None and self.drive is not None:
            head = replace(self.drive.head, engine=engine)
            journal = Journal(place, head, checkpoint, self.drive.story)
            return Kept(session, journal, self.drive)
        head = Head(checkpoint.name, checkpoint.world_hash, engine, time.time())
        try:
            return Kept(session, Journal(self.state.new(), head, checkpoint))
        except UserError as error:
            self.notes.append(f"{error}: the drive is not kept")
            return session

    def files(self, files: RunFiles) -> RunFiles:
        """The files of this run: a recording that was cut off goes on beside itself."""
        if self.drive is None or not (path := self.drive.story.recording):
            return files
        cut = Path(path)
        self.recordings = [cut]
        if files.record is None:
            names = (cut.with_stem(f"{cut.stem}-{number}") for number in range(2, NAMES))
            free = (p for p in names if not p.exists() and not p.with_suffix(".jsonl").exists())
            files = replace(files, record=next(free))
            files.check()
        assert files.record is not None
        self.recordings.append(files.record)
        return files

    def summary(self) -> dict[str, Any]:
        """What the summary of a run says of the drive that goes on: the seam is before ``frame``,
        counted from its reset; of two recordings the second begins there."""
        if self.drive is None:
            return {}
        frame = self.drive.shown * 4
        files = [str(path) for path in self.recordings]
        return {"continued": {"journal": self.drive.name, "frame": frame, "recordings": files}}


async def note_recordings(show: Show) -> None:
    """Tell a kept session of every recording of its show, until the show ends."""
    if not isinstance(show.source, Kept):
        return
    subscription = show.subscribe(viewer=False)
    while await subscription.wait():
        subscription.frame()
        for event in subscription.events():
            if event.kind == "record":
                path = show.tape.files.get(event.data["name"])
                going = event.data["state"] == "started" and path is not None
                show.source.recorded(str(path.absolute()) if going and path else "")


def unfinished(state: StateFolder) -> str:
    """One line of the drive that was written last, if it was cut off; "" for none."""
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
        _, story = read_log(place.folder)
    except UserError as error:
        return f"a drive was cut off and cannot go on: {error}"
    finally:
        place.leave()
    return (
        f"a drive was cut off {_seconds(story.next)} s in ({story.prompt[:60]}); it goes on with "
        f"--continue{'' if len(state.names()) == 1 else f' {name}'}"
    )


def _seconds(latents: int) -> str:
    return f"{latents / LATENTS_PER_SECOND:.0f}"

"""The files of a show: videos of what is shown, each with a control log beside it, and saved
worlds."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

from actors.source import WorldInfo
from actors.tasks import Tasks
from configs.errors import UserError
from configs.limits import check_output_file, check_title
from pipeline.stage.audience import Audience, Event, ShownFrame
from pipeline.stage.control_log import ControlLog
from pipeline.stage.recorder import Recorder
from pipeline.stage.tape import Tape

CLOSE_SECONDS: Final = 60.0  # in which the encoder of a recording that failed ends

LONGEST_NAME: Final = 80  # characters of a new name
LONGEST_FILE: Final = 240  # bytes of it: a file's name has 255, its ending included
IN_NAMES: Final = " -_.()"  # no separator


class Recordings:
    """One recording at a time; ``record`` events say how it is with it."""

    def __init__(self, info: WorldInfo, tape: Tape, audience: Audience, folder: Path) -> None:
        """folder: for files that name no path; made when the first one is written."""
        self.files: dict[str, Path] = {}  # of this run, for download
        self.failures: list[str] = []  # a line for every video that is not whole
        self.running: Recorder | None = None
        self._info = info
        self._tape = tape
        self._audience = audience
        self._folder = folder
        self._log: ControlLog | None = None  # of the running one
        self._tasks = Tasks()

    def start(self, path: Path | None = None) -> Path:
        """Write every frame shown from now on to ``path`` (fragmented mp4, playable at any moment),
        and the whole drive since the last reset to a control log beside it (``.jsonl``). Returns
        the path; None picks a name.

        Raises UserError if a recording runs already or a file exists.
        """
        if self.running is not None:
            raise UserError(f"recording: {self.running.path.name} is being recorded; stop it first")
        path = path or self.free_name("drive", ".mp4")
        log = self._tape.log(path.with_suffix(".jsonl"))
        try:
            self.running = Recorder(path, self._info)
        except (UserError, OSError):
            self._tape.end(log)
            log.path.unlink(missing_ok=True)
            raise
        self._log = log
        self.files |= {path.name: path, log.path.name: log.path}
        self._audience.tell("record", **self._state("started", self.running))
        return path

    def go_on(self, path: Path) -> None:
        """A recording that was cut off goes on in this file, if it can; else that is said, and the
        drive goes on without."""
        try:
            self.start(path)
        except (UserError, OSError) as error:
            self._audience.warn(f"the recording does not go on: {error}")

    def add(self, frame: ShownFrame) -> None:
        """A frame is shown, or belongs to a latent of which others were."""
        recorder = self.running
        if recorder is not None and not recorder.add(frame.image):
            self._fail(recorder)
            self._tasks.start(self.stop())

    async def stop(self) -> Path | None:
        """Finish the recording; returns its path, or None if none ran."""
        recorder, self.running = self.running, None
        if recorder is None:
            return None
        assert self._log is not None
        self._tape.end(self._log)
        await asyncio.to_thread(recorder.close)
        if recorder.error:
            self._fail(recorder)
        state = "failed" if recorder.error else "stopped"
        self._audience.tell("record", **self._state(state, recorder))
        return recorder.path

    async def close(self) -> None:
        """Finish what runs."""
        await self.stop()
        await self._tasks.finish(CLOSE_SECONDS)

    def _fail(self, recorder: Recorder) -> None:
        """Its file is not whole: one notice, whenever it shows."""
        failure = f"recording ended: {recorder.error}"
        if failure not in self.failures:
            self.failures.append(failure)
            self._audience.warn(failure)

    def news(self) -> tuple[Event, ...]:
        """What somebody who comes now has to hear."""
        if self.running is None:
            return ()
        return (Event("record", self._state("started", self.running)),)

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
        stem = check_title(stem, "recording name", LONGEST_NAME, IN_NAMES)
        if len(os.fsencode(stem)) > LONGEST_FILE:
            raise UserError(f"recording name: too long for a file, shorten {stem[:20]!a}...")
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
        if self.running is not None and self.running.path == video:
            raise UserError(f"recording: {name} is being recorded; stop it first")
        return [path for path in (video, video.with_suffix(".jsonl")) if path.is_file()]

    def _state(self, state: str, recorder: Recorder) -> dict[str, Any]:
        """Data of a ``record`` event."""
        return {
            "state": state,
            "name": recorder.path.name,
            "seconds": round(recorder.frames / self._info.fps, 1),
            "message": recorder.error,
        }

"""A drive of an earlier launcher whose journal is ours: it goes on here."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.journal.drive import Drive, read_drive
from actors.journal.place import Place
from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from configs.limits import check_output_file, check_path, check_video_file
from models.checkpoint import Checkpoint
from pipeline.host import Continuation

NAMES: Final = 1000  # of recordings that go on
LONGEST_STEM: Final = 200  # bytes of the first one's name in theirs


@dataclass(frozen=True)
class HeldDrive:
    """What lies in ``place``, and ``place`` itself, which nobody else has."""

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

    def beside(self) -> tuple[Path | None, str]:
        """Where a recording that was cut off goes on; or None, and in one line why it does not, if
        there was one."""
        cut = self.drive.story.recording
        if not cut:
            return None, ""
        try:
            return _beside(Path(cut)), ""
        except UserError as error:
            return None, f"the drive goes on, its recording does not: {error}"

    def continuation(self, record: Path | None = None) -> Continuation:
        """How it goes on. record: where to record it; None: beside a recording that was cut off.
        The seam is before ``frame``, counted from its reset; of two recordings the second begins
        there."""
        drive, cut = self.drive, self.drive.story.recording
        recording = record or self.beside()[0]
        told = {
            "journal": drive.name,
            "frame": drive.shown * FRAMES_PER_LATENT,
            "recordings": [cut, *([str(recording)] if recording else [])] if cut else [],
        }
        return Continuation(drive.take, recording, {"continued": told})


def _beside(cut: Path) -> Path:
    """A name beside a recording under which a video and its control log can be written. Raises
    UserError."""
    check_path(cut, "recording")
    if cut.suffix != ".mp4":
        raise UserError(f"recording {cut}: expected an mp4 file")
    stem = os.fsencode(cut.stem)[:LONGEST_STEM].decode(errors="ignore")
    for number in range(2, NAMES):
        video = cut.with_name(f"{stem}-{number}.mp4")
        if not video.exists() and not video.with_suffix(".jsonl").exists():
            check_output_file(video.with_suffix(".jsonl"), "recording")
            return check_video_file(video, "recording")
    raise UserError(f"recording {cut}: {NAMES} lie beside it; move some of them")

"""A drive of an earlier launcher whose journal is ours: it goes on here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.journal.drive import Drive, read_drive
from actors.journal.place import Place
from configs.geometry import FRAMES_PER_LATENT
from models.checkpoint import Checkpoint
from pipeline.host import Continuation

NAMES: Final = 1000  # of recordings that go on


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

    def continuation(self, record: Path | None = None) -> Continuation:
        """How it goes on. record: where to record it; None: beside a recording that was cut off.
        The seam is before ``frame``, counted from its reset; of two recordings the second begins
        there."""
        drive, cut = self.drive, self.drive.story.recording
        recording = record or (_beside(Path(cut)) if cut else None)
        told = {
            "journal": drive.name,
            "frame": drive.shown * FRAMES_PER_LATENT,
            "recordings": [cut, str(recording)] if cut else [],
        }
        return Continuation(drive.take, recording, {"continued": told})


def _beside(cut: Path) -> Path:
    """A free name beside a recording."""
    names = (cut.with_stem(f"{cut.stem}-{number}") for number in range(2, NAMES))
    return next(p for p in names if not p.exists() and not p.with_suffix(".jsonl").exists())

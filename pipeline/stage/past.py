"""What a show can go back to: moments of the world that is shown, the world that was left, worlds in
files."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.source import ChunkSource, Moment, Take
from configs.errors import UserError
from configs.limits import whole_number
from pipeline.stage.recordings import Recordings
from pipeline.stage.tape import Tape

MOST_SAVED: Final = 64  # worlds in files, of one run
NOTHING_KEPT: Final = "this world keeps no moments: it cannot go back, be saved or opened"


@dataclass(frozen=True)
class Opening:
    """A moment, and the drive that led to it: labels and prompts of the latents before it."""

    moment: Moment
    led: Take


class Past:
    """Moments of the world that is shown, and the one that was left last. ``shown`` is always the
    latent on the screen, -1 before the first of a stream."""

    def __init__(
        self,
        source: ChunkSource,
        tape: Tape,
        recordings: Recordings,
        opening: Opening | None,
    ) -> None:
        """opening: where the show begins, if not at latent 0."""
        self._source = source
        self._tape = tape
        self._recordings = recordings
        self._begins = opening
        self.rewinds = 0  # times that the world went back, or another was opened
        self._left: Opening | None = None
        self._saving = False

    def take_opening(self) -> Moment | None:
        """Where the show begins, to be taken once; None = at latent 0."""
        opening, self._begins = self._begins, None
        return None if opening is None else opening.moment

    def kept(self, shown: int) -> list[int]:
        """Latents that one can go back to at once, the oldest first; to those between, nearly.
        Empty for a world that keeps nothing."""
        return [latent for latent in self._source.kept() if latent <= shown]

    def oldest(self, shown: int) -> int | None:
        """The first of them."""
        return next(iter(self.kept(shown)), None)

    def check_kept(self) -> None:
        """Raise UserError for a world that keeps nothing."""
        if not self._source.kept():
            raise UserError(NOTHING_KEPT)

    def at(self, latent: int, shown: int) -> Opening:
        """Before ``latent``, or the first of its step. Raises UserError where one cannot go back
        to."""
        self.check_kept()
        kept = self.kept(shown)
        if not kept:
            raise UserError("latent: the world is on its way; try again in a moment")
        whole_number("latent", latent, kept[0], shown)
        latent -= latent % self._source.info.latents_per_step
        return Opening(self._source.moment(latent), self._tape.led(latent))

    def leave(self, shown: int) -> None:
        """The world begins again, or goes on elsewhere: remember where it stands, if it got
        anywhere."""
        if shown > 0:
            self._left = self.at(shown, shown) if self.kept(shown) else None

    def left(self) -> Opening:
        """Where the world stood that was left last. Raises UserError."""
        if self._left is None:
            raise UserError("no world was left that one could go back to")
        return self._left

    async def save(self, opening: Opening) -> Path:
        """Write a moment to a file beside the recordings; returns its path. Raises
        UserError."""
        if not opening.moment.latent:
            raise UserError("save: nothing is made before latent 0; expected a later one")
        saved = [name for name in self._recordings.files if name.endswith(".world")]
        if self._saving:
            raise UserError("save: another moment is being saved; try again in a moment")
        if len(saved) >= MOST_SAVED:
            raise UserError(f"save: this run has saved {MOST_SAVED} worlds; delete some of them")
        self._saving = True
        try:
            # other worlds may save into the same folder in the same second
            path = self._recordings.free_name(f"world-{secrets.token_hex(2)}", ".world")
            await self._source.save(opening.moment, opening.led, path)
        except OSError as error:
            raise UserError(f"save: it cannot be written ({error.strerror or error})") from None
        finally:
            self._saving = False
        self._recordings.files[path.name] = path
        return path

    async def load(self, path: Path) -> Opening:
        """Read a world from a file. Raises UserError."""
        self.check_kept()
        return Opening(*await self._source.load(path))

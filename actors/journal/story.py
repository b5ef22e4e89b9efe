"""What the records of a journal tell: one stream since its reset."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from actors.journal.records import (
    Asked,
    Began,
    Ended,
    Head,
    Made,
    Record,
    Recorded,
    Shown,
)
from configs.errors import UserError
from models.controls import parse_signal, write_signal

NONE_SHOWN: Final = -1


@dataclass
class Story:
    """Grows record by record; the same for who writes and who reads.

    ``labels`` are those of the steps from latent ``first`` on, one a latent, ``prompts`` (latent,
    text), the first one in force at ``first``. ``asked``: a prompt that no step has taken yet, or
    "". ``recording``: where one is being written, or "". ``stream`` counts resets; -1: none yet.
    """

    stream: int = -1
    first: int = 0
    seed: int = 0
    labels: list[str] = field(default_factory=list)
    prompts: list[tuple[int, str]] = field(default_factory=list)
    shown: int = NONE_SHOWN
    asked: str = ""
    recording: str = ""
    ended: bool = False

    @property
    def next(self) -> int:
        """The latent that is made next."""
        return self.first + len(self.labels)

    @property
    def prompt(self) -> str:
        """In force for the newest latent."""
        return self.prompts[-1][1]

    def take(self, record: Record) -> None:
        """Go on by one record. Raises UserError for one that cannot come here."""
        if self.ended:
            raise UserError("a record after the end")
        if self.stream < 0 and not isinstance(record, Head | Began | Recorded | Ended):
            raise UserError("latents of a stream that did not begin")
        match record:
            case Began():
                self._take_began(record)
            case Made():
                self._take_made(record)
            case Shown(latent):
                if not latent < self.next:
                    raise UserError(f"latent {latent} was shown before it was made")
                self.shown = latent
            case Asked(prompt):
                self.asked = prompt
            case Recorded(path):
                self.recording = path
            case Ended():
                self.ended = True

    def records(self, first: int) -> Iterator[Record]:
        """Records that tell the same from latent ``first`` on."""
        if self.stream >= 0:
            in_force = [text for latent, text in self.prompts if latent <= first][-1]
            yield Began(self.stream, first, self.seed, in_force)
            changes = [(latent, text) for latent, text in self.prompts if latent > first]
            ends = [latent for latent, _ in changes] + [self.next]
            for start, end, text in zip(
                [first, *ends[:-1]], ends, ["", *(text for _, text in changes)], strict=True
            ):
                labels = self.labels[start - self.first : end - self.first]
                if labels:
                    yield Made(start, write_signal(labels), text)
            if self.shown >= first:
                yield Shown(self.shown)
            if self.asked:
                yield Asked(self.asked)
        if self.recording:
            yield Recorded(self.recording)
        if self.ended:
            yield Ended()

    def _take_began(self, record: Began) -> None:
        if record.stream <= self.stream or (self.stream >= 0 and record.latent):
            raise UserError(f"stream {record.stream} begins at latent {record.latent} within one")
        self.stream, self.first, self.seed = record.stream, record.latent, record.seed
        self.labels, self.prompts = [], [(record.latent, record.prompt)]
        self.shown, self.asked = NONE_SHOWN, ""

    def _take_made(self, record: Made) -> None:
        if record.latent != self.next:
            raise UserError(f"latent {record.latent} follows where {self.next} was expected")
        if record.prompt and record.prompt != self.prompt:
            self.prompts.append((record.latent, record.prompt))
        if self.asked == self.prompt:
            self.asked = ""
        self.labels += parse_signal(record.labels)

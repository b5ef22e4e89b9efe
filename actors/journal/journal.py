"""A session's journal: what it is told is on its way to the disk at once, and nobody waits for it.

All calls are quick and belong to one event loop; a thread writes. A disk that is full, slow or gone
costs the journal, never the drive: one notice says that nothing is kept, another that it is again.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from actors.journal.moment import Moment
from actors.journal.place import Place
from actors.journal.records import (
    Asked,
    Began,
    Ended,
    Head,
    Made,
    Record,
    Recorded,
    Rewound,
    Shown,
)
from actors.journal.scribe import EVERY, Scribe
from actors.journal.story import NONE_SHOWN, Story
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.controls import write_signal

WAITING: Final = 4096  # records: a disk that falls further behind keeps nothing
END_SECONDS: Final = 5.0  # to write what waits when the session ends

NOT_KEPT: Final = "the drive goes on, but it is not kept any more"

logger = logging.getLogger(__name__)


class Journal:
    """Keeps one session in ``place``. ``story``: what a journal that goes on has told already.

    say: called with one line when nothing is kept any more, and when it is again; from the writer's
    thread.
    """

    def __init__(
        self,
        place: Place,
        head: Head,
        checkpoint: Checkpoint,
        say: Callable[[str], None],
        story: Story | None = None,
    ) -> None:
        story = story or Story()
        self.place = place
        self._scribe = Scribe(place.folder, head, checkpoint, story)
        self._say = say
        self._queue: queue.Queue[Record | Moment | None] = queue.Queue(WAITING)
        self._stream, self._shown = story.stream, story.shown
        self._next = self._known = story.next  # the latent that is made next; first not yet noted
        self._prompt = story.prompts[-1][1] if story.prompts else ""
        self._saved = 0  # latent of the newest snapshot that was asked for
        self._behind = self._lost = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    # -- what happens in the session ---------------------------------------------------------------

    def began(self, seed: int, prompt: str) -> None:
        """A stream begins at latent 0."""
        self._stream += 1
        self._next = self._known = self._saved = 0
        self._shown, self._prompt = NONE_SHOWN, prompt
        self._put(Began(self._stream, 0, seed, prompt))

    def made(self, labels: tuple[str, ...], prompt: str, moment: Callable[[], Moment]) -> None:
        """A step is done: it was given these labels, one a latent, under this prompt. ``moment``
        makes what a snapshot after it needs; it is called when one is due."""
        latent, self._next = self._next, self._next + len(labels)
        if latent < self._known:
            return
        changed, self._prompt = prompt if prompt != self._prompt else "", prompt
        self._put(Made(latent, write_signal(labels), changed))
        if self._next - self._saved >= EVERY:
            self._saved = self._next
            self._put(moment())

    def shown(self, latent: int) -> None:
        """The newest latent that reached the screen."""
        if self._shown < latent < self._next:
            self._shown = latent
            self._put(Shown(latent))

    def stands(self, latent: int) -> None:
        """The session goes on from a snapshot before ``latent``: it makes again what is noted
        already."""
        self._next = self._saved = latent

    def rewound(self, latent: int) -> None:
        """The world went back to before ``latent``, and what came later is forgotten. ``prompt`` is
        in force there."""
        self._next = self._known = latent
        self._saved = min(self._saved, latent)
        self._shown = min(self._shown, latent - 1)
        self._put(Rewound(latent))

    def asked(self, prompt: str) -> None:
        """A prompt that the next step will take."""
        self._put(Asked(prompt))

    def recorded(self, path: str) -> None:
        """A recording begins at this absolute path; "": it ends."""
        self._put(Recorded(path))

    def close(self, ended: bool) -> None:
        """Write what waits (it blocks for some seconds at most). ended: the session was told to
        end. Idempotent. A journal of nothing is taken away."""
        if not self.place.held:
            return
        if ended:
            self._put(Ended())
        self._put(None)
        self._thread.join(END_SECONDS)
        if self._scribe.story.next:
            self.place.leave()
        else:
            self.place.remove()

    def _put(self, item: Record | Moment | None) -> None:
        if self._behind:
            return
        try:
            self._queue.put_nowait(item)
        except queue.Full:  # what is on the disk stays as it is
            self._behind = True
            self._tell(f"{NOT_KEPT} (the disk fell {WAITING} records behind)")

    # -- the writer's thread -----------------------------------------------------------------------

    def _write(self) -> None:
        self._attempt(self._scribe.open)
        while (item := self._queue.get()) is not None:
            if isinstance(item, Moment):
                self._attempt(self._save, item)
            else:
                self._attempt(self._scribe.write, item)
        self._attempt(self._scribe.close)

    def _save(self, moment: Moment) -> None:
        if not self._scribe.keeps:  # the disk may have room by now
            self._scribe.open()
        self._scribe.save(moment)
        if self._lost:
            self._lost = False
            self._tell("the drive is kept again")

    def _attempt(self, action: Callable[..., None], *items: Record | Moment) -> None:
        try:
            action(*items)
        except (OSError, UserError) as error:
            with contextlib.suppress(OSError):
                self._scribe.close()
            if not self._lost:
                self._lost = True
                self._tell(f"{NOT_KEPT} ({getattr(error, 'strerror', None) or error})")

    def _tell(self, line: str) -> None:
        logger.warning("%s: %s", self.place.folder, line)
        self._say(line)

"""A session's journal: what it is told is on its way to the disk at once, and nobody waits for it.

All calls are quick and belong to one event loop; a thread writes. A disk that is full, slow or gone
costs the journal, never the drive: one notice says that nothing is kept, another that it is again.
"""

import contextlib
import copy
import functools
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from actors.journal.place import Place
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
from actors.journal.scribe import EVERY, Scribe, snapshot_path, snapshots
from actors.journal.story import NONE_SHOWN, Story
from actors.moments import changes, commit_of
from actors.source import Take
from actors.timeline import Commit
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.controls import write_signal
from models.snapshot import read_snapshot

WAITING: Final = 4096  # records: a disk that falls further behind keeps nothing
END_SECONDS: Final = 5.0  # to write what waits when the session ends

NOT_KEPT: Final = "the drive goes on, but it is not kept any more"

logger = logging.getLogger(__name__)


class Journal:
    """Keeps one session in ``place``. ``story``: what a journal that goes on has told already. Its
    files stay as they are until something new is shown: a start that comes to nothing leaves a drive
    that was cut off to the next one, in the care of the same launcher."""

    def __init__(
        self,
        place: Place,
        head: Head,
        checkpoint: Checkpoint,
        story: Story | None = None,
    ) -> None:
        begins = story is None
        story = copy.deepcopy(story) if story else Story()  # it grows here
        story.ended = False
        self.place = place
        self._scribe = Scribe(place.folder, head, checkpoint, story)
        self._said: list[str] = []  # before somebody listened
        self._say: Callable[[str], None] = self._said.append
        self._queue: queue.Queue[_Item] = queue.Queue(WAITING)
        self._stream, self._shown = story.stream, story.shown
        self._next = self._known = story.next  # the latent that is made next; first not yet noted
        self._prompt = story.prompts[-1][1] if story.prompts else ""
        self._saved = self._known  # latent of the newest snapshot that was asked for
        self._behind = self._lost = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        if begins:
            self._start()

    def tell(self, say: Callable[[str], None]) -> None:
        """Call ``say`` with one line when nothing is kept any more, and when it is again; from the
        writer's thread."""
        said, self._say = self._said, say
        for line in said:
            say(line)

    def note(self, line: str) -> None:
        """Let who listens know."""
        self._tell(line)

    # -- what happens in the session ---------------------------------------------------------------

    def began(self, led: Take, prompt: str, commit: Commit | None = None) -> None:
        """A stream begins with the latent that ``led`` leads to, under ``prompt``. It can be made
        again from ``commit`` on, and without one from latent 0."""
        self._stream += 1
        self._next = self._known = len(led.labels)
        self._shown, self._prompt = NONE_SHOWN, prompt
        self._saved = commit.index if commit else 0
        self._start()
        if not led.labels:
            return self._put(Began(self._stream, 0, led.seed, prompt))
        self._prompt = led.prompts[-1]
        prompts = list(changes(led.prompts))
        story = Story(self._stream, seed=led.seed, labels=list(led.labels), prompts=prompts)
        self._put(_Other(story, commit))

    def stands(self, latent: int) -> None:
        """The session goes on from a snapshot, and ``latent`` is the first that it hands on: it
        makes again what is noted already."""
        self._next = self._saved = latent

    def made(self, labels: tuple[str, ...], prompt: str) -> None:
        """Latents came: their steps were given these labels under this prompt."""
        latent, self._next = self._next, self._next + len(labels)
        if latent < self._known:
            return
        changed, self._prompt = prompt if prompt != self._prompt else "", prompt
        self._put(Made(latent, write_signal(labels), changed))

    @property
    def stream(self) -> int:
        """Counts streams."""
        return self._stream

    def moments(self) -> list[Commit]:
        """Where this stream stood whenever a snapshot of it was made, as far as they are kept, in
        order. It reads the disk, for another thread than the session's."""
        found = []
        for stream, index in snapshots(self.place.folder):
            with contextlib.suppress(UserError):  # taken away meanwhile
                path = snapshot_path(self.place.folder, stream, index)
                if stream == self._stream:
                    found.append(commit_of(read_snapshot(path, self._scribe.checkpoint)[0]))
        return found

    @property
    def due(self) -> tuple[int, int]:
        """A snapshot is due where the world stood before a latent from the first to the second;
        none if there is no such latent."""
        return max(self._saved + EVERY, self._known), self._next

    def save(self, commit: Commit) -> None:
        """Where the world stood at a latent that is due."""
        self._saved = commit.index
        self._put(commit)

    def shown(self, latent: int) -> None:
        """The newest latent that reached the screen."""
        if self._shown < latent < self._next:
            self._shown = latent
            self._start()
            self._put(Shown(latent))

    def asked(self, prompt: str) -> None:
        """A prompt that the next step will take."""
        self._put(Asked(prompt))

    def recorded(self, path: str) -> None:
        """A recording begins at this absolute path; "": it ends."""
        self._put(Recorded(path))

    def close(self, ended: bool) -> None:
        """Write what waits (it blocks for some seconds at most). ended: the session was told to
        end. Idempotent. A journal of nothing is taken away, and one that went on with nothing new
        is left as it was."""
        if not self.place.held:
            return
        if not self._started:
            return self.place.leave()
        self._say = logger.warning  # nobody listens to the session any more
        if ended:
            self._put(Ended())
        self._put(None)
        self._thread.join(END_SECONDS)
        if self._scribe.story.next:
            self.place.leave()
        else:
            self.place.remove()

    @property
    def _started(self) -> bool:
        return self._thread.ident is not None

    def _start(self) -> None:
        """Write from now on, what waits first."""
        if not self._started:
            self._thread.start()

    def _put(self, item: "_Item") -> None:
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
            self._attempt(functools.partial(self._do, item))
        self._attempt(self._scribe.close)

    def _do(self, item: "Record | Commit | _Other") -> None:
        if isinstance(item, _Other):
            self._scribe.turn_to(item.story, item.commit)
        elif isinstance(item, Commit):
            self._save(item)
        else:
            self._scribe.write(item)

    def _save(self, commit: Commit) -> None:
        if not self._scribe.keeps:  # the disk may have room by now
            self._scribe.open()
        self._scribe.save(commit)
        if self._lost:
            self._lost = False
            self._tell("the drive is kept again")

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, UserError) as error:
            self._lose(getattr(error, "strerror", None) or str(error))
        except Exception as error:  # a fault of ours must not end the thread without a word
            logger.exception("%s: the journal's writer failed", self.place.folder)
            self._lose(type(error).__name__)

    def _lose(self, why: str) -> None:
        with contextlib.suppress(OSError):
            self._scribe.close()
        if not self._lost:
            self._lost = True
            self._tell(f"{NOT_KEPT} ({why})")

    def _tell(self, line: str) -> None:
        logger.info("%s: %s", self.place.folder, line)  # who listens says it in the terminal
        self._say(line)


@dataclass(frozen=True)
class _Other:
    """Another stream, and where it can be made again from."""

    story: Story
    commit: Commit | None


_Item = Record | Commit | _Other | None

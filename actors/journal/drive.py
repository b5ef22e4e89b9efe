"""A journal as it is found after its session: what it takes to go on where it was shown last."""

import contextlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from actors.journal.records import LOG, EmptyLog, Head, read_records
from actors.journal.scribe import snapshot_path, snapshots
from actors.journal.story import Story
from actors.moments import check_whole, every
from actors.source import Take
from configs.errors import UserError
from configs.files import read_bytes
from models.checkpoint import Checkpoint
from models.snapshot import Snapshot, read_snapshot

LOG_LIMIT: Final = 8 << 20  # bytes; ours are shortened beyond a megabyte

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drive:
    """A drive that can go on. ``story`` is whole: its first latent is 0.

    snapshot: where to go on computing, with the story's labels and prompts from there; None: at
    latent 0. shown: the first latent that is to be shown again, which was on the screen last. past:
    earlier snapshots, in order, to which one can go back.
    """

    name: str
    head: Head
    story: Story
    snapshot: Snapshot | None
    shown: int
    past: tuple[Snapshot, ...] = ()

    @property
    def index(self) -> int:
        """The latent before which the snapshot stands."""
        return 0 if self.snapshot is None else self.snapshot.index

    @cached_property
    def take(self) -> Take:
        """The whole drive; its latents from ``shown`` on are to be shown again."""
        story = self.story
        labels, prompts = tuple(story.labels), every(tuple(story.prompts), story.next)
        return Take(story.seed, labels, prompts, engine=self.head.engine, first=self.shown)


def read_drive(folder: Path, checkpoint: Checkpoint) -> Drive:
    """The drive in a journal's folder. Raises UserError with one line for a log that is damaged, of
    another version or of other weights, or without a whole snapshot where one is needed."""
    head, story = read_log(folder)
    try:
        check_fits(head, checkpoint)
        if not story.next:
            raise UserError("nothing was made in it")
        step = checkpoint.streaming.window_size
        shown = max(0, story.shown) // step * step
        if shown == 1 and not checkpoint.tiny:  # the full decoder shows two latents at first
            shown = 0
        found = _whole(folder, story, shown, checkpoint)
        snapshot = found[-1] if found else None
        if snapshot is not None:
            _complete(story, snapshot)
        elif story.first:
            raise UserError(f"no snapshot before latent {shown} is whole")
    except UserError as error:
        raise UserError(f"journal {folder.name}: {error}") from None
    return Drive(
        name=folder.name,
        head=head,
        story=story,
        snapshot=snapshot,
        shown=shown,
        past=tuple(found[:-1]),
    )


def check_fits(head: Head, checkpoint: Checkpoint) -> None:
    """Raise UserError unless a drive was made with these weights, and their start."""
    if head.weights != checkpoint.world_hash:
        raise UserError(
            f"made with {head.model!a} ({head.weights[:12]!a}), but these weights are "
            f"{checkpoint.name} ({checkpoint.world_hash[:12]}); choose its weights with MODEL_PATH"
        )
    if head.start != start_of(checkpoint):
        raise UserError(
            "made with another start; give the --start that it was made with"
            if head.start
            else "made without a start of one's own; leave --start out"
        )


def start_of(checkpoint: Checkpoint) -> str:
    """What `Head.start` says of drives of these weights."""
    return "" if checkpoint.start is None else checkpoint.stream_hash


def read_log(folder: Path) -> tuple[Head, Story]:
    """What the log alone tells; a drive of no latents is no error. Raises UserError, EmptyLog."""
    data = read_bytes(folder / LOG, LOG_LIMIT, f"journal {folder.name}")
    story, head = Story(), None
    try:
        for record in read_records(data):
            if isinstance(record, Head):
                head = record
            else:
                story.take(record)
    except UserError as error:
        raise type(error)(f"journal {folder.name}: {error}") from None
    assert head is not None, "read_records gives it first"
    return head, story


def read_head(folder: Path) -> Head | None:
    """The head of a log whose rest may be damaged; None if it is not whole itself."""
    with contextlib.suppress(UserError):
        first = next(read_records(read_bytes(folder / LOG, LOG_LIMIT, "journal")))
        return first if isinstance(first, Head) else None
    return None


def is_empty(folder: Path) -> bool:
    """Whether a journal's log tells that nothing was made; one that cannot be read does not."""
    try:
        return read_log(folder)[1].next == 0
    except EmptyLog:
        return True
    except UserError:
        return False


def _whole(folder: Path, story: Story, shown: int, checkpoint: Checkpoint) -> list[Snapshot]:
    """The whole snapshots of this story up to a latent, in order."""
    found = []
    for stream, index in snapshots(folder):
        if stream != story.stream or not story.first <= index <= shown:
            continue
        path = snapshot_path(folder, stream, index)
        try:
            snapshot, _ = read_snapshot(path, checkpoint)
            _check(snapshot, story, index, path)
            found.append(snapshot)
        except UserError as error:
            logger.warning("%s; an earlier one is taken", error)
    return found


def _check(snapshot: Snapshot, story: Story, index: int, path: Path) -> None:
    """Raise UserError unless a snapshot is of this story, and workers can go on from it."""
    check_whole(snapshot)
    overlap = tuple(story.labels[: index - story.first])
    if (snapshot.index, snapshot.state.seed, snapshot.labels[story.first :]) != (
        index,
        story.seed,
        overlap,
    ):
        raise UserError(f"snapshot {path.name}: of another drive than the log")


def _complete(story: Story, snapshot: Snapshot) -> None:
    """Let the story begin at latent 0: what its shortened log lacks is in the snapshot."""
    earlier = [(latent, text) for latent, text in snapshot.prompts if latent < story.first]
    story.labels = [*snapshot.labels[: story.first], *story.labels]
    if earlier:
        later = [each for each in story.prompts[1:] if each[0] >= story.first]
        same = story.prompts[0][1] == earlier[-1][1]
        story.prompts = [*earlier, *([] if same else story.prompts[:1]), *later]
    story.first = 0

"""A session that is kept: all that happens to its stream is told to a journal on the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.journal.drive import Drive
from actors.journal.journal import Journal
from actors.moments import commit_of
from actors.session import Session
from actors.source import FrameChunk, Moment, Pace, Report, Take
from actors.tasks import Tasks
from actors.timeline import Commit, Route


@dataclass(frozen=True)
class Led:
    """How a moment is reached (`Moment.state`), and the whole drive that led there."""

    route: Route
    take: Take


@dataclass(frozen=True)
class _Coming:
    """A stream that was asked for: it is noted when its first latents come."""

    led: Take
    commit: Commit | None = None


class KeptSession:
    """A ChunkSource (actors/source.py): ``session``, and its journal, which makes again what
    ``drive`` says when that drive's take is asked for."""

    def __init__(self, session: Session, journal: Journal, drive: Drive | None = None) -> None:
        self.info = session.info
        self._session, self._journal = session, journal
        self._drive = drive
        self._epoch = 0
        self._broke = self._rests = False
        self._recalling = Tasks()
        self._coming: _Coming | None = None
        self._unasked, self._made = "", 0  # see _ask_again
        self._labels: list[str] = []  # of the stream so far, and the prompts in force
        self._prompts: list[str] = []

    async def start(
        self,
        seed: int,
        prompt: str,
        report: Report,
        moment: Moment | None = None,
    ) -> None:
        """See ChunkSource."""
        loop, say = asyncio.get_running_loop(), self._session.say

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(say.tell, "journal", line)

        self._journal.tell(tell)
        self._coming = _Coming(Take(seed, (), ())) if moment is None else _coming(moment)
        inner = None if moment is None else replace(moment, state=_led(moment).route)
        await self._session.start(seed, prompt, report, inner)

    async def next(self) -> FrameChunk:
        """See ChunkSource."""
        try:
            chunk = await self._session.next()
        except RuntimeError:
            self._broke = True
            raise
        if chunk.epoch >= self._epoch:
            self._note(chunk)
            await self._ask_again(chunk)
        return chunk

    def hold(self, label: str, cursor: int) -> None:
        """See ChunkSource."""
        self._session.hold(label, cursor)

    async def set_prompt(self, text: str, version: int) -> None:
        """See ChunkSource."""
        await self._session.set_prompt(text, version)
        if self._coming is None:
            self._journal.asked(text)

    def reset(self, seed: int, take: Take | None = None) -> int:
        """See ChunkSource."""
        if take is not None and self._drive is not None:  # the first one is the drive's
            drive, self._drive = self._drive, None
            self._unasked, self._made = drive.story.asked, drive.story.next
            snapshots = filter(None, (*drive.past, drive.snapshot))
            return self._resume(take, tuple(map(commit_of, snapshots)))
        self._unasked = ""
        led = Take(seed, take.labels[: take.first], take.prompts[: take.first]) if take else None
        return self._come(_Coming(led or Take(seed, (), ())), self._session.reset(seed, take))

    def kept(self) -> Sequence[int]:
        """See ChunkSource."""
        return self._session.kept()

    def moment(self, latent: int) -> Moment:
        """See ChunkSource."""
        moment = self._session.moment(latent)
        labels, prompts = tuple(self._labels[:latent]), tuple(self._prompts[:latent])
        assert isinstance(moment.state, Route)
        return replace(moment, state=Led(moment.state, Take(moment.seed, labels, prompts)))

    def open(self, moment: Moment) -> int:
        """See ChunkSource."""
        epoch = self._session.open(replace(moment, state=_led(moment).route))
        return self._come(_coming(moment), epoch)

    async def save(self, moment: Moment, take: Take, path: Path) -> None:
        """See ChunkSource."""
        await self._session.save(replace(moment, state=_led(moment).route), take, path)

    async def load(self, path: Path) -> tuple[Moment, Take]:
        """See ChunkSource."""
        moment, take = await self._session.load(path)
        assert isinstance(moment.state, Route)
        return replace(moment, state=Led(moment.state, take)), take

    def pace(self, pace: Pace) -> None:
        """See ChunkSource."""
        if self._coming is None:
            self._journal.shown(pace.shown)
        self._session.pace(pace)
        if self._rests and not pace.paused:
            self._rests = False
            self._recalling.start(self._recall(self._journal.stream))

    def rest(self) -> None:
        """As `Session.rest`; the moments come back from the journal."""
        self._session.rest()
        self._rests = True

    async def close(self) -> None:
        """See ChunkSource."""
        await self._session.close()
        await self._recalling.cancel()
        await asyncio.to_thread(self._journal.close, ended=not self._broke)

    def recorded(self, path: str) -> None:
        """A recording of this stream begins at an absolute path; "": it ends."""
        self._journal.recorded(path)

    # -- what the journal hears --------------------------------------------------------------------

    def _come(self, coming: _Coming, epoch: int) -> int:
        self._epoch, self._coming = epoch, coming
        return epoch

    def _resume(self, take: Take, commits: tuple[Commit, ...]) -> int:
        """The stream of the journal goes on."""
        self._labels = list(take.labels[: take.first])
        self._prompts = list(take.prompts[: take.first])
        self._journal.stands(take.first)
        self._coming = None
        self._epoch = self._session.resume(take, commits)
        return self._epoch

    async def _recall(self, stream: int) -> None:
        """Keep again what was given back for a rest."""
        commits = await asyncio.to_thread(self._journal.moments)
        if self._coming is None and self._journal.stream == stream:
            self._session.recall(commits)

    async def _ask_again(self, chunk: FrameChunk) -> None:
        """A prompt that no step had taken when the drive was cut off, once all others are made."""
        if self._unasked and len(self._labels) >= self._made:
            text, self._unasked = self._unasked, ""
            await self._session.set_prompt(text, chunk.prompt_version)

    def _note(self, chunk: FrameChunk) -> None:
        """A chunk of the stream that was asked for last."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self._labels, self._prompts = list(coming.led.labels), list(coming.led.prompts)
            self._journal.began(coming.led, chunk.prompt, coming.commit)
        self._epoch = chunk.epoch
        self._labels += chunk.steered
        self._prompts += [chunk.prompt] * len(chunk.steered)
        self._journal.made(chunk.steered, chunk.prompt)
        first, last = self._journal.due
        due = [latent for latent in self._session.kept() if first <= latent <= last]
        if due:
            state = self._session.moment(due[-1]).state
            assert isinstance(state, Route)
            self._journal.save(state.commit)


def _led(moment: Moment) -> Led:
    assert isinstance(moment.state, Led), "a moment of another kind of source"
    return moment.state


def _coming(moment: Moment) -> _Coming:
    """The stream that goes on from a moment."""
    led = _led(moment)
    return _Coming(led.take, led.route.commit)

"""The worlds of one launcher: each a show of its own, with its own end. The first is the launcher's own;
others are made on request, as long as there is room for them."""

import asyncio
import functools
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from configs.errors import UserError
from pipeline.beginning import Beginning
from pipeline.host import OWN, Continuation, Host, PastDrive, Whose
from pipeline.hosted_world import HostedWorld
from pipeline.stage.show import Show
from pipeline.waiting import Waiting

logger = logging.getLogger(__name__)
MOST_WORLDS: Final = 8
FIRST: Final = Whose(OWN, "the first world")
LOOK_SECONDS: Final = 1.0  # between two looks at who watches
MOST_RECORDS: Final = 200  # worlds of which the summary tells
PAST: Final = 20  # lives of worlds that ended: an estimate of the next

Loaded = Callable[[Show], object]


class NoRoom(UserError):
    """There is no room for another world now."""


class OneWorld(UserError):
    """Nothing can make another world here."""


@dataclass
class Tally:
    """What happened to the worlds of a launcher."""

    opened: int = 0
    ended: int = 0
    broken: int = 0
    refused: int = 0  # requests that found no room; some of them waited for it
    rested: int = 0
    woken: int = 0
    lives: deque[float] = field(default_factory=lambda: deque(maxlen=PAST))  # seconds, the last
    records: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_RECORDS))

    def over(self, world: HostedWorld) -> None:
        """A world has ended."""
        self.records.append(world.record())
        self.ended += 1
        self.broken += world.fault is not None
        self.lives.append(time.monotonic() - world.born)


class Worlds:
    """All worlds of a launcher, by their ids.

    ``run`` is the whole life: it ends when the launcher's own world comes to its end by itself, or
    when the last world breaks. Worlds that are ended on request leave the others, and a launcher
    that waits for the next.
    """

    def __init__(
        self,
        own: Show,
        host: Host | None = None,
        *,
        continuation: Continuation | None = None,
        most: int = MOST_WORLDS,
        rest: float = math.inf,
        recordings: Path = Path("recordings"),
    ) -> None:
        """host: what makes other worlds; None: there is only this one. continuation: of a drive
        that goes on in ``own``. rest: seconds without a viewer."""
        self.own = HostedWorld(own, FIRST, continuation)
        self.tally = Tally()
        self.waiting = Waiting()
        self.opened: list[Callable[[HostedWorld], None]] = []  # told of every world that begins
        self.most = most if host else 1
        self.host = host
        self._rest = rest
        self._recordings = recordings
        self._here = {self.own.id: self.own}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._making: set[str] = set()  # ids of those that are being made
        self._ended = asyncio.Event()
        self._fault: Exception | None = None

    # -- life --------------------------------------------------------------------------------------

    async def run(self, loaded: Loaded | None = None) -> None:
        """Play. ``loaded`` is for the launcher's own world, as ``Show.run`` takes it. Raises what
        the last one ended with."""
        self._start(self.own, loaded)
        resting = asyncio.create_task(self._look())
        try:
            await self._ended.wait()
        finally:
            self._ended.set()
            resting.cancel()
            for world in self:
                world.show.stop("the launcher ends")
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._fault is not None:
            raise self._fault

    def stop(self, reason: str) -> None:
        """End every world, and ``run`` with them."""
        for world in self:
            world.show.stop(reason)
        self._ended.set()

    # -- what a lobby may do -----------------------------------------------------------------------

    def __iter__(self) -> Iterator[HostedWorld]:
        """Those that live, the oldest first."""
        return iter(tuple(self._here.values()))

    def __len__(self) -> int:
        return len(self._here)

    def get(self, name: str) -> HostedWorld | None:
        """The living world of an id."""
        return self._here.get(name)

    @property
    def room(self) -> int:
        """How many more could begin now: none before the launcher's own has loaded or when it ends,
        and none beyond what lets all keep their frame rate. One that rests keeps its place: nobody
        who comes back finds it taken."""
        if self.host is None or self.own.show.state == "starting" or self._ended.is_set():
            return 0
        places = int(min(self.most, self.host.capacity))
        return max(0, places - len(self._here) - len(self._making))

    def records(self) -> list[dict[str, Any]]:
        """What the summary says of every world, as far back as it is kept."""
        return [*self.tally.records, *(world.record() for world in self)]

    async def new(self, beginning: Beginning) -> HostedWorld:
        """Begin another world; it loads while this returns. Raises NoRoom, UserError when it
        cannot begin."""
        if self.host is None:
            raise OneWorld("this launcher shows one world only")
        if self.room <= self.waiting.length(time.monotonic()):
            self.tally.refused += 1
            raise NoRoom(
                f"no room for another world now: {len(self)} of at most {self.most} are here"
            )
        return await self._new(beginning)

    async def ask(self, beginning: Beginning) -> HostedWorld | str:
        """Begin another world, or wait for room: the ticket to ask again with. Raises as ``new``,
        when the queue is full as well."""
        try:
            return await self.new(beginning)
        except NoRoom:
            ticket = self.waiting.join(beginning, time.monotonic())
        if ticket is None:
            raise NoRoom("no room for another world now, and too many wait; try again later")
        return ticket

    async def ask_again(self, ticket: str) -> HostedWorld | int | None:
        """The world that a ticket waits for if it begins now, else its place in the queue (1 = the
        next); None when it is not waiting any more, as after a while without asking."""
        place = self.waiting.place(ticket, time.monotonic())
        if place is None or place > self.room:
            return place
        beginning = self.waiting.take(ticket)
        assert beginning is not None
        return await self._new(beginning)

    async def in_turn(self, beginning: Beginning) -> HostedWorld:
        """Begin another world as soon as there is room, in the queue like everybody. Raises as
        ``ask``."""
        made: HostedWorld | str | int | None = await self.ask(beginning)
        ticket = made if isinstance(made, str) else ""
        while not isinstance(made, HostedWorld):
            if made is None:
                raise NoRoom("it lost its place in the queue")
            await asyncio.sleep(LOOK_SECONDS)
            made = await self.ask_again(ticket)
        return made

    async def go_on(self, drives: Sequence[PastDrive], say: Callable[[str], None]) -> None:
        """Let drives go on as soon as there is room for each; ``say`` hears of one that cannot."""
        while self.own.show.state == "starting":
            await asyncio.sleep(LOOK_SECONDS)

        async def one(drive: PastDrive) -> None:
            try:
                await self.in_turn(Beginning.again(drive))
            except UserError as error:
                say(f"{drive.journal} does not go on: {error}")

        await asyncio.gather(*map(one, drives))

    async def drives(self) -> Sequence[PastDrive]:
        """Drives of earlier launchers that can go on here, the newest first."""
        return () if self.host is None else await self.host.drives()

    async def drive(self, journal: str) -> PastDrive:
        """One of them. Raises UserError."""
        if self.host is None:
            raise OneWorld("this launcher shows one world only")
        for drive in await self.drives():
            if drive.journal == journal:
                return drive
        raise UserError(f"no drive {journal[:80]!a} can go on here now")

    def estimate(self, place: int) -> float | None:
        """Seconds until a place in the queue is served, by how long worlds lived so far; None while
        nobody can know."""
        lives = self.tally.lives
        return place * sum(lives) / len(lives) / max(1, len(self)) if lives else None

    async def _new(self, beginning: Beginning) -> HostedWorld:
        assert self.host is not None
        taken = beginning.id in ("", OWN, *self._here, *self._making)
        named = secrets.token_hex(4) if taken else beginning.id
        whose = Whose(named, beginning.name or f"world {self.tally.opened + 1}")
        self._making.add(named)
        try:
            made = await self.host.source(whose, beginning.drive)
            show = beginning.show(made, self._recordings)
        finally:
            self._making.remove(named)
        if self._ended.is_set():
            await made.source.close()
            raise NoRoom("no room for another world: the launcher ends")
        world = HostedWorld(show, whose, made.continuation)
        self._here[world.id] = world
        recording = made.continuation and made.continuation.recording
        self._start(world, functools.partial(_record, recording) if recording else None)
        return world

    def end(self, name: str) -> HostedWorld | None:
        """Ask the world of an id to end; None if there is none."""
        world = self._here.get(name)
        if world is not None:
            world.end("this world was ended in the lobby")
        return world

    def arrive(self, world: HostedWorld) -> None:
        """Somebody comes to watch a world: it goes on at once if it rests."""
        if world.wake():
            self.tally.woken += 1
            logger.info("world %s wakes", world.id)

    # -- one world ---------------------------------------------------------------------------------

    def _start(self, world: HostedWorld, loaded: Loaded | None) -> None:
        self.tally.opened += 1
        self._tasks[world.id] = asyncio.create_task(self._live(world, loaded))
        for tell in self.opened:
            tell(world)

    async def _live(self, world: HostedWorld, loaded: Loaded | None) -> None:
        """One world from its begin to its end, which is never that of another."""
        try:
            await world.show.run(loaded)
        except Exception as error:
            world.fault = error
            logger.info("world %s broke", world.id, exc_info=True)
        del self._here[world.id], self._tasks[world.id]
        self.tally.over(world)
        world.over.set()
        if world.fault is not None and not self._here:
            self._fault = world.fault
            self._ended.set()
        elif world.own and world.fault is None and not world.asked:
            self._ended.set()

    async def _look(self) -> None:
        """Put those to rest that nobody watches, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for world in self:
                if world.look(now, self._rest):
                    self.tally.rested += 1
                    logger.info("world %s rests", world.id)


def _record(path: Path, show: Show) -> None:
    show.recordings.go_on(path)

"""A real show on a real port: the program of tests/road.py, the pacer and the gateway in one event
loop."""

import asyncio
import contextlib
import functools
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from actors.source import ChunkSource, Take
from configs.errors import UserError
from pipeline.host import Continuation, Host, PastDrive, Whose, WorldSource
from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.web.gateway import Gateway
from pipeline.web.room import Room
from pipeline.worlds import Worlds
from tests.until import until

ROAD = [sys.executable, "-m", "tests.road"]
TOKEN = "a-token-made-for-these-tests-only"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROMPT = "a red car on a road at sunset"


@dataclass
class Live:
    worlds: Worlds
    gateway: Gateway

    @property
    def show(self) -> Show:
        return self.worlds.own.show

    @property
    def room(self) -> Room:
        """Of the launcher's own world."""
        return self.gateway.sites.own.room

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[dict[tuple[int, int], bytes]]:
        """Every frame that is shown meanwhile: (epoch, index) -> its pixels."""
        subscription, seen = self.show.subscribe(), {}

        async def watch() -> None:
            while await subscription.wait():
                subscription.events()
                if frame := subscription.frame():
                    seen[frame.epoch, frame.index] = frame.image.tobytes()

        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            subscription.close()
            await task


class Making(Host):
    """A host of sources that a function makes. ``capacity``, ``past``: what it says of itself."""

    capacity = math.inf

    def __init__(self, make: Callable[[], Awaitable[ChunkSource]]) -> None:
        self.make = make
        self.past: list[PastDrive] = []

    async def source(self, whose: Whose, drive: str = "") -> WorldSource:
        if not drive:
            return WorldSource(await self.make())
        if drive not in [each.journal for each in self.past]:
            raise UserError(f"no journal {drive}")
        self.past = [each for each in self.past if each.journal != drive]
        take = Take(7, ("DL",) * 12, ("a sea",) * 12, first=8)
        going_on = Continuation(take, told={"continued": {"journal": drive}})
        return WorldSource(await self.make(), going_on)

    async def drives(self) -> Sequence[PastDrive]:
        return tuple(self.past)


@contextlib.asynccontextmanager
async def live(
    *road: str,
    port: int = 0,
    recordings: Path = Path("/dev/null/recordings"),
    wait: bool = True,
    many: dict[str, Any] | None = None,
    source: Callable[[], Awaitable[ChunkSource]] | None = None,
    **settings: Any,
) -> AsyncIterator[Live]:
    """A playing show. ``road`` are options of tests/road.py, which plays where no ``source`` is
    made; ``settings`` go to the gateway, ``many`` to the worlds: with them there may be others,
    each with a source of its own."""
    make = source or functools.partial(Program.launch, [*ROAD, *road])
    show = Show(await make(), seed=42, prompt=PROMPT, recordings=recordings)
    host = None if many is None else Making(make)
    worlds = Worlds(show, host, recordings=recordings, **many or {})
    gateway = Gateway(worlds, **{"host": "127.0.0.1", "port": port, "token": TOKEN, **settings})
    await gateway.start()
    running = asyncio.create_task(worlds.run())
    theatre = Live(worlds, gateway)
    try:
        if wait:
            await until(lambda: show.ready)
        yield theatre
    finally:
        worlds.stop("the test is over")
        await asyncio.gather(running, return_exceptions=True)
        await gateway.close()


async def simulator() -> ChunkSource:
    """A world that knows how fast it drives, and which way."""
    return await Program.launch([sys.executable, "-m", "training.driving_world", "--pipe"])


class Socket:
    """A bare client of the live socket, for saying things that the Python client never would."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames = 0

    async def say(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def hear(self, kind: str, seconds: float = 20.0) -> dict[str, Any]:
        """The next message of a kind; everything else is passed over, frames are acknowledged."""
        async with asyncio.timeout(seconds):
            while True:
                data = await self.connection.recv()
                if isinstance(data, bytes):
                    await self.acknowledge(data)
                elif (message := json.loads(data))["type"] == kind:
                    return message

    async def acknowledge(self, data: bytes) -> None:
        self.frames += 1
        await self.say("ack", epoch=int.from_bytes(data[12:16]), frame=int.from_bytes(data[16:20]))


@contextlib.asynccontextmanager
async def socket(
    port: int, name: str = "", hello: bool = True, **settings: Any
) -> AsyncIterator[Socket]:
    """An admitted connection of a program."""
    address = f"ws://127.0.0.1:{port}/live"
    options = {
        "additional_headers": BEARER,
        "compression": None,
        "proxy": None,
        "max_size": None,
        **settings,
    }
    async with connect(address, **options) as connection:
        link = Socket(connection)
        if hello:
            await link.say("hello", client=name)
            await link.hear("welcome")
        yield link


def with_show(
    body: Callable[[Live, httpx.AsyncClient], Awaitable[None]], *road: str, **settings: Any
) -> None:
    """Run a test's body with a playing show and a client of its pages."""

    async def whole() -> None:
        async with (
            live(*road, **settings) as theatre,
            httpx.AsyncClient(base_url=theatre.origin) as http,
        ):
            await body(theatre, http)

    asyncio.run(whole())

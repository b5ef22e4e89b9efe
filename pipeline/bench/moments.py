"""How long it takes to get to a moment: saved as a file, opened, branched, gone back to, and a world
that wakes; each from the request of a client to the first frame that it gets."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from pipeline.bench.options import Options
from pipeline.bench.table import table
from pipeline.bench.worlds import admitted, launched
from pipeline.clients.client import Client, connect
from pipeline.clients.lobby import Card, Lobby

TIMES: Final = 5
DRIVEN: Final = 400  # frames before anything is measured: more latents than a file holds
REST_SECONDS: Final = 10  # the least that the program allows

Way = Callable[[], Awaitable[None]]


def measure(options: Options) -> dict[str, Any]:
    """Milliseconds of each, the median and the most of five; and the file's size."""
    return asyncio.run(_measure(options.model))


async def _measure(model: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with launched(model, REST_SECONDS, Path(folder)) as (_, url):
            moments = Moments(url, Path(folder) / "recordings")
            figures = await moments.measure()
    rows = [(name, round(ms["p50"], 1), round(ms["most"], 1)) for name, ms in figures.items()]
    table(("ms until the first frame (save: until it is told)", "p50", "most"), rows)
    print(f"the file: {moments.size / 1e6:.2f} MB")
    return {**figures, "file_bytes": moments.size}


class Moments:
    """A launcher's first world, driven, and others that come and go."""

    def __init__(self, url: str, recordings: Path) -> None:
        self._url, self._recordings = url, recordings
        self._lobby = Lobby(url)
        self._file = Path()
        self.size = 0  # of a world in a file, bytes

    async def measure(self) -> dict[str, dict[str, float]]:
        """All of it."""
        async with await connect(self._url) as own:
            await _frames(own, DRIVEN)
            figures = {
                "save": await _timed(lambda: self._save(own)),
                "open": await self._begun(lambda: self._lobby.open_world(self._file)),
                "branch": await self._begun(lambda: self._branch(own)),
                "go back": await _timed(lambda: _back(own)),
            }
            figures["wake"] = await self._woken()
        return figures

    async def _save(self, own: Client) -> None:
        self._file = self._recordings / Path(await own.save()).name
        self.size = self._file.stat().st_size

    async def _branch(self, own: Client) -> Card:
        address = urljoin(self._url, await own.branch())
        return next(each for each in await self._lobby.worlds() if each.driver == address)

    async def _begun(self, begin: Callable[[], Awaitable[Card]]) -> dict[str, float]:
        """Another world begins, is seen, and ends."""
        made: list[Card] = []

        async def way() -> None:
            made.append(await begin())
            async with await connect(made[-1].driver) as client:
                await _frames(client, 1)

        async def end() -> None:
            await self._lobby.end(made[-1].id)
            await asyncio.sleep(1)

        return await _timed(way, end)

    async def _woken(self) -> dict[str, float]:
        """A world that nobody watched wakes."""
        card = await admitted(self._lobby, 0)
        async with await connect(card.driver) as client:
            await _frames(client, 40)

        async def rest() -> None:
            while (await self._lobby.worlds())[-1].state != "resting":
                await asyncio.sleep(0.5)

        async def way() -> None:
            async with await connect(card.driver) as client:
                await _frames(client, 1)

        await rest()
        return await _timed(way, rest, times=2)


async def _frames(client: Client, count: int) -> None:
    for _ in range(count):
        assert await client.frame() is not None, "the world ended"


async def _back(own: Client) -> None:
    """Two seconds back, and on from there."""
    newest = await own.frame()
    assert newest is not None
    own.rewind(max(0, newest.header.frame // FRAMES_PER_LATENT - 2 * LATENTS_PER_SECOND))
    while True:
        frame = await own.frame()
        assert frame is not None, "the world ended"
        if frame.header.epoch > newest.header.epoch:
            return


async def _timed(way: Way, after: Way | None = None, times: int = TIMES) -> dict[str, float]:
    """Milliseconds of ``way``, several times; ``after`` each of them."""
    milliseconds = []
    for _ in range(times):
        begun = time.monotonic()
        await way()
        milliseconds.append(1000 * (time.monotonic() - begun))
        if after is not None:
            await after()
    return {"p50": statistics.median(milliseconds), "most": max(milliseconds)}

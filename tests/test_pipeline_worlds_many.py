"""Hundreds of worlds, one after the other: what is left of them is nothing."""

import asyncio
import gc
import time
from pathlib import Path

import httpx
import psutil
import pytest

from pipeline.clients.client import connect
from pipeline.hosted_world import HostedWorld
from pipeline.stage.show import Show
from pipeline.web.site import Site
from tests.live import BEARER, live


async def one_life(http: httpx.AsyncClient, number: int) -> None:
    """A world is begun, watched, driven, recorded, seen in the lobby, and ended."""
    begun = await http.post("worlds", json={"seed": number, "prompt": f"a road {number}"})
    card = begun.json()["world"]
    url = str(http.base_url.join(card["links"]["driver"]))
    async with await connect(url) as driver:
        assert await driver.frame()
        driver.record(True)
        driver.hold("DL")
        driver.set_prompt(f"a road {number} at night")
        assert (await driver.message("record"))["state"] == "started"
        assert (await http.get(f"pictures/{card['id']}")).status_code == 200
        assert await driver.message("applied")
        assert (await http.delete(f"worlds/{card['id']}")).status_code == 204
        assert (await driver.message("bye"))["reason"]


def left() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    here = psutil.Process()
    counted = {kind.__name__: kinds.count(kind) for kind in (HostedWorld, Show, Site)}
    return counted | {
        "descriptors": here.num_fds(),
        "threads": here.num_threads(),
        "children": len(here.children(recursive=True)),
        "tasks": len(asyncio.all_tasks()),
    }


async def lives(http: httpx.AsyncClient, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 4):
        some = range(start, min(start + 4, numbers.stop))
        await asyncio.gather(*(one_life(http, number) for number in some))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("first", "count"), [(4, 8), pytest.param(250, 250, marks=pytest.mark.soak)]
)
def test_worlds_that_ended_leave_nothing(first: int, count: int, tmp_path: Path) -> None:
    """The first ones fill the pools: of threads, of the allocator."""

    async def whole() -> None:
        async with (
            live(many={}, recordings=tmp_path) as theatre,
            httpx.AsyncClient(base_url=f"{theatre.origin}/lobby/", headers=BEARER) as http,
        ):
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(32)))
            await lives(http, range(first))
            await asyncio.sleep(1)
            before, memory = left(), psutil.Process().memory_info().rss
            await lives(http, range(first, first + count))
            await asyncio.sleep(1)
            after = left()
            grown = psutil.Process().memory_info().rss - memory
            print(count, before, after, f"{grown / 2**20:.1f} MB")
            for kind, number in before.items():
                assert after[kind] <= number + 2, (kind, before, after)
            assert grown < 16 * 2**20, "MB that every further world takes with it"
            figures = (await http.get(f"{theatre.origin}/metrics")).text
            assert figures.count("world=") == figures.count('world="first"')
            assert theatre.worlds.tally.ended == first + count

    asyncio.run(whole())

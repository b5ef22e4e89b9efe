"""The client of the lobby against a real gateway: worlds begin, are driven, wait and end."""

import asyncio
import ssl
import time

import pytest

from configs.errors import UserError
from pipeline.clients.client import connect
from pipeline.clients.lobby import Lobby
from pipeline.host import PastDrive, Whose
from tests.live import live
from tests.tls import certificate
from tests.until import until


def run(body, **many):
    async def whole():
        async with live(many=many) as theatre, await connect(theatre.url) as client:
            return await body(theatre, client)

    return asyncio.run(whole())


def test_a_client_begins_drives_and_ends_another_world():
    async def body(theatre, client):
        card = await client.new_world("a car at night", seed=7, name="Ann")
        assert (card.name, card.seed, card.prompt) == ("Ann", 7, "a car at night")
        async with await connect(card.driver) as driver, await connect(card.watcher) as watcher:
            assert await driver.frame() and await watcher.frame()
            listed = (await client.worlds())[1]
            assert (listed.id, listed.driven, listed.watching) == (card.id, True, 1)
            with pytest.raises(UserError, match="needs the launcher's own address"):
                await driver.worlds()
            await client.end(card.id)
            assert (await watcher.message("bye"))["reason"]
        assert [one.id for one in await client.worlds()] == ["first"]
        with pytest.raises(UserError, match="no world of that id"):
            await client.end(card.id)
        with pytest.raises(UserError, match="prompt"):
            await client.new_world("x" * 5000)
        await client.frame()
        assert client.role == "driver", "its own world went on meanwhile"

    run(body)


def test_a_client_goes_on_with_a_drive():
    async def body(theatre, client):
        whose = Whose("0a1b2c3d", "Ann")
        past = PastDrive("2026-1", whose, "mine", "a sea", 7, 3.0, False, time.time())
        theatre.worlds.host.past = [past]
        (drive,) = await client.drives()
        assert (drive.drive, drive.name, drive.seconds, drive.ended) == (
            "2026-1",
            "Ann",
            3.0,
            False,
        )
        card = await client.go_on(drive.drive)
        assert (card.id, card.name, card.seed) == ("0a1b2c3d", "Ann", 7)
        async with await connect(card.driver) as driver:
            assert await driver.frame()
        assert await client.drives() == []
        with pytest.raises(UserError, match="can go on"):
            await client.go_on(drive.drive)

    run(body)


def test_a_client_waits_for_room_and_leaves_the_queue_when_it_gives_up():
    async def body(theatre, client):
        first = await client.new_world()
        waits = asyncio.create_task(client.new_world(seed=5))
        gives_up = asyncio.create_task(client.new_world(seed=6))
        length = theatre.worlds.waiting.length
        await until(lambda: length(0.0) == 2)
        gives_up.cancel()
        await until(lambda: length(0.0) == 1)
        await client.end(first.id)
        assert (await asyncio.wait_for(waits, 10)).seed == 5
        with pytest.raises(asyncio.CancelledError):
            await gives_up

    run(body, most=2)


def test_without_a_launcher_or_its_token_it_is_said(tmp_path):
    async def whole():
        with pytest.raises(OSError):
            await Lobby("http://127.0.0.1:9/?token=abc").worlds()
        pair = certificate(tmp_path)
        async with live(tls=pair, many={}) as theatre:
            trust = ssl.create_default_context(cafile=pair[0])
            assert len(await Lobby(theatre.url, trust).worlds()) == 1
            with pytest.raises(UserError, match="launcher's own address"):
                await Lobby(theatre.url + "x", trust).worlds()

    asyncio.run(whole())

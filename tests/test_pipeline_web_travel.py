"""Going back over the live socket, with the Python client: messages, refusals, roles."""

import asyncio

import pytest

from configs.errors import UserError
from pipeline.clients.client import connect
from pipeline.web.access import Right
from tests.dream import DreamSource
from tests.live import live, socket
from tests.until import until


def run(parts, body, **settings):
    async def make():
        return DreamSource(parts)

    async def whole():
        async with (
            live(source=make, **settings) as theatre,
            await connect(theatre.url, "tester") as client,
        ):
            await until(lambda: theatre.show.latent >= 9)
            return await body(theatre, client)

    asyncio.run(whole())


def test_the_client_goes_back_and_to_the_world_that_was_left(parts):
    async def body(theatre, client):
        moments = await client.moments()
        kept = [moment["latent"] for moment in moments["kept"]]
        assert kept[0] == 0 and kept == sorted(kept) and kept[-1] <= moments["shown"]
        assert moments["kept"][0]["ago"] == pytest.approx(moments["shown"] / 4)
        assert (await client.message("stats"))["oldest"] in (0, None)
        client.rewind(3)
        rewound = await client.message("rewound")
        assert (rewound["latent"], rewound["seed"], rewound["epoch"]) == (3, 42, 2)
        while (frame := await client.frame()).header.epoch < 2:
            pass
        assert 12 <= frame.header.frame < 20
        client.undo()
        assert (await client.message("rewound"))["latent"] >= 9
        await until(lambda: theatre.show.latent >= 10)
        client.reset(5)
        await until(lambda: theatre.show.seed == 5 and theatre.show.latent >= 1)
        client.undo()
        while (await client.message("rewound"))["seed"] != 42:
            pass
        assert theatre.show.seed == 42

    run(parts, body)


def test_a_world_goes_into_a_file_and_out_of_it(parts, tmp_path):
    async def body(theatre, client):
        theatre.show.pause()
        address = await client.save()
        path = theatre.show.recordings.files[address.split("/")[-1]]
        with pytest.raises(UserError, match="from 0 to"):
            await client.save(1000)
        with pytest.raises(UserError, match="before latent 0"):
            await client.save(0)
        between = theatre.show.recordings.files[(await client.save(3)).split("/")[-1]]
        assert (await theatre.show.past.load(between)).moment.latent == 3, "exactly"
        theatre.show.recordings.delete(between.name)
        client.reset(5)
        await client.open(path)
        await until(lambda: theatre.show.seed == 42)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match="^this file"):
            await client.open(path)
        assert theatre.show.seed == 42
        theatre.show.recordings.rename(path.name, "turn")
        theatre.show.recordings.delete("turn.world")
        assert not list(tmp_path.glob("*.world"))

    run(parts, body, recordings=tmp_path)


def test_a_second_world_begins_where_this_one_stands_and_none_where_there_is_one(parts):
    async def alone(theatre, client):
        with pytest.raises(UserError, match="one world"):
            await client.branch()

    async def several(theatre, client):
        theatre.show.pause()
        latent = theatre.show.latent
        address = await client.branch()
        branch = next(world for world in theatre.worlds if not world.own)
        assert address == theatre.gateway.sites.address(branch.id, Right.DRIVER)
        async with await connect(f"{theatre.origin}/{address}") as other:
            frame = await other.frame()
            assert frame is not None and frame.header.frame >= 4 * latent and other.role == "driver"
        assert branch.show.take().labels[:latent] == theatre.show.take().labels[:latent]

    run(parts, alone)
    run(parts, several, many={})


def test_only_the_driver_goes_back_and_nonsense_changes_nothing(parts):
    async def body(theatre, client):
        async with socket(theatre.port) as watcher:
            for kind in ("rewind", "undo", "save", "open", "branch"):
                await watcher.say(kind)
                assert "take control" in (await watcher.hear("error"))["message"]
            await watcher.say("take_control")
            for latent in (-1, 10**9, "3", None, True, 1.5, [3]):
                await watcher.say("rewind", latent=latent)
                assert "latent" in (await watcher.hear("error"))["message"]
            await watcher.say("undo")
            assert "no world was left" in (await watcher.hear("error"))["message"]
        assert theatre.show.epoch == 1

    run(parts, body)


def test_a_program_keeps_nothing_and_says_so():
    async def whole():
        async with live() as theatre, socket(theatre.port) as link:
            for kind in ("rewind", "save", "open"):
                await link.say(kind, latent=0)
                assert "keeps no moments" in (await link.hear("error"))["message"]
            await link.say("moments")
            assert (await link.hear("moments"))["kept"] == []

    asyncio.run(whole())

"""Several worlds on one port: each behind its own links, and nothing of one through those of another."""

import asyncio
import itertools
import time

import httpx
import pytest

from actors.source import Moment, Take
from configs.errors import UserError
from pipeline.beginning import Beginning
from pipeline.clients.client import connect
from pipeline.hosted_world import HostedWorld
from pipeline.stage.past import Opening
from pipeline.web.access import Right
from tests.live import BEARER, Live, live
from tests.proxy import proxy
from tests.until import until

PATHS = ("", "static/app.js", "recordings/x", "presets/0", "poll")


async def another(theatre: Live, prompt: str = "a car at night", seed: int = 7) -> HostedWorld:
    world = await theatre.worlds.new(Beginning(prompt, seed))
    await until(lambda: world.show.ready)
    return world


def link(theatre: Live, world: HostedWorld, right: Right = Right.DRIVER) -> str:
    return f"{theatre.origin}/{theatre.gateway.sites.address(world.id, right)}"


def bearer(url: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {url.partition('token=')[2]}"}


def run(body, **settings):
    async def whole():
        async with live(many={}, **settings) as theatre, httpx.AsyncClient() as http:
            return await body(theatre, http)

    return asyncio.run(whole())


def test_an_address_typed_without_its_last_letter_works_under_any_path():
    async def body(theatre, http):
        world = await another(theatre)
        async with proxy(theatre.port, "/proxy/8000") as port:
            for origin in (theatre.origin, f"http://127.0.0.1:{port}/proxy/8000"):
                address = theatre.gateway.sites.address(world.id, Right.WATCHER)
                typed = f"{origin}/{address.replace('/?', '?')}"
                answer = await http.get(typed)
                assert answer.status_code == 307 and "nosniff" in str(answer.headers)
                assert answer.headers["location"] == f"./{world.id}/?{address.partition('?')[2]}"
                page = await http.get(typed, follow_redirects=True)
                assert page.status_code == 200 and "<canvas" in page.text
        for name, place in (("a:b", "./a%3Ab/"), ("%2f%2fx.y", "./"), ("%0d%0aX: y", "./%0D")):
            answer = await http.get(f"{theatre.origin}/worlds/{name}")
            assert answer.headers.get("location", "./").startswith(place)
            assert "x" not in answer.headers

    run(body)


def test_a_driver_a_watcher_and_the_launchers_owner_each_have_their_world():
    async def body(theatre, http):
        world = await another(theatre)
        async with (
            await connect(link(theatre, world, Right.WATCHER)) as watcher,
            await connect(link(theatre, world)) as driver,
            await connect(theatre.url) as owner,
        ):
            driver.hold("DL")
            applied = await driver.message("applied")
            frames = aiter(watcher)
            while (frame := await anext(frames)).header.frame < applied["frame"]:
                pass
            assert frame.header.label == "DL" and (watcher.role, driver.role) == (
                "viewer",
                "driver",
            )
            assert (await anext(aiter(owner))).header.label == "D" and owner.role == "driver"
            assert theatre.show.held == "D" and world.show.held == "DL"
            assert watcher.link == "watcher" and driver.link == "driver" and owner.link == "owner"

    run(body)


def test_a_watcher_changes_nothing_whoever_is_there():
    async def body(theatre, http):
        world = await another(theatre)
        async with await connect(link(theatre, world, Right.WATCHER)) as watcher:
            await watcher.frame()
            watcher.hold("DL")
            assert "for watching" in (await watcher.message("error"))["message"]
            watcher.release()
            kinds = ("take_control", *theatre.gateway.sites[world.id].room._driver_only)
            for kind in kinds:
                watcher._say(kind)
                assert "for watching" in (await watcher.message("error"))["message"], kind
            assert {"reset", "record", "rewind", "branch", "save", "open"} < set(kinds)
            assert watcher.role == "viewer" and world.show.held == "D" and not world.show.paused
            assert (world.show.seed, world.show.epoch) == (7, 0)
            async with await connect(link(theatre, world)) as driver:
                await driver.frame()
                assert driver.role == "driver", "a watcher never has the seat of the first to come"

    run(body)


def test_no_key_of_one_world_opens_anything_of_another():
    async def body(theatre, http):
        one, other = await another(theatre), await another(theatre)
        foreign = [
            {},
            BEARER,
            bearer(link(theatre, other)),
            bearer(link(theatre, other, Right.WATCHER)),
        ]
        for path in PATHS:
            for headers in foreign:
                answer = await http.get(f"{theatre.origin}/worlds/{one.id}/{path}", headers=headers)
                assert answer.status_code == 401, path
        for headers in (bearer(link(theatre, one)), bearer(link(theatre, one, Right.WATCHER))):
            assert (await http.get(f"{theatre.origin}/", headers=headers)).status_code == 401
            assert (await http.get(f"{theatre.origin}/metrics", headers=headers)).status_code == 401
        for url in (link(theatre, other), theatre.url):
            strange = (
                link(theatre, one).partition("token=")[0] + "token=" + url.partition("token=")[2]
            )
            with pytest.raises(UserError):
                await connect(strange)

    run(body)


def test_the_cookie_of_a_world_belongs_to_its_folder():
    async def body(theatre, http):
        world = await another(theatre)
        answer = await http.get(link(theatre, world))
        assert answer.status_code == 200 and "<canvas" in answer.text
        assert "path" not in answer.headers["set-cookie"].lower()
        folder = f"{theatre.origin}/worlds/{world.id}/"
        assert (await http.get(folder + "static/app.js")).status_code == 200
        assert (await http.get(f"{theatre.origin}/")).status_code == 401

    run(body)


def test_a_world_that_ended_says_so_to_who_had_its_link_and_nothing_to_strangers():
    async def body(theatre, http):
        world = await another(theatre)
        url = link(theatre, world)
        async with await connect(url) as driver:
            await driver.frame()
            theatre.worlds.end(world.id)
            assert "ended in the lobby" in (await driver.message("bye"))["reason"]
        await world.over.wait()
        await until(lambda: world.id not in theatre.gateway.sites.registries())
        answer = await http.get(url)
        assert answer.status_code == 410 and "This world has ended" in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await http.get(url.partition("?")[0])).status_code in (401, 410)
        stranger = httpx.AsyncClient()
        for name in (world.id, "0123abcd", "..", "%2e%2e", "a%2fb", "x" * 3000):
            answer = await stranger.get(f"{theatre.origin}/worlds/{name}/")
            assert answer.status_code in (400, 401), name
        await stranger.aclose()
        with pytest.raises(UserError, match="ended"):
            await connect(url)
        assert (await http.get(f"{theatre.origin}/", headers=BEARER)).status_code == 200

    run(body)


def test_the_launchers_own_world_has_links_for_others_as_well():
    async def body(theatre, http):
        watch = link(theatre, theatre.worlds.own, Right.WATCHER)
        async with await connect(watch) as watcher, await connect(theatre.url) as owner:
            assert await watcher.frame() and await owner.frame()
            assert len(theatre.room.viewers) == 2, "one room, whatever door they came through"
        assert (await http.get(f"{theatre.origin}/", headers=bearer(watch))).status_code == 401

    run(body)


def test_figures_name_the_world():
    async def body(theatre, http):
        world = await another(theatre)
        text = (await http.get(f"{theatre.origin}/metrics", headers=BEARER)).text
        for name in ("first", world.id):
            assert f'matrix_frames_shown_total{{world="{name}"}}' in text
        assert 'matrix_worlds{state="awake"} 2.0' in text and "matrix_worlds_room 6.0" in text
        theatre.worlds.end(world.id)
        await until(lambda: world.id not in theatre.gateway.sites.registries())
        text = (await http.get(f"{theatre.origin}/metrics", headers=BEARER)).text
        assert world.id not in text and "matrix_worlds_ended_total 1.0" in text

    run(body)


def test_another_world_of_a_moment_has_its_address_relative_to_the_page():
    async def body(theatre, http):
        world = await another(theatre)
        for site, page in (
            (theatre.gateway.sites.own, f"{theatre.origin}/"),
            (theatre.gateway.sites[world.id], f"{theatre.origin}/worlds/{world.id}/"),
        ):
            assert site.room.travel._branch is not None
            opening = Opening(Moment(0, 3, "a sea", None), Take(3, (), ()))
            address = await site.room.travel._branch(opening)
            url = httpx.URL(page).join(address)
            assert (await http.get(url)).status_code == 200

    run(body)


def test_a_flood_on_one_world_leaves_another_in_time():
    async def body(theatre, http):
        world = await another(theatre)
        async with (
            await connect(link(theatre, world)) as hostile,
            await connect(link(theatre, world, Right.WATCHER)) as silent,
            await connect(theatre.url) as viewer,
        ):

            async def flood():
                for seq in range(2500):
                    hostile.hold(("DL", "DR")[seq % 2])
                    silent.take_control()
                    if seq % 50 == 0:
                        hostile.reset(seq)
                        hostile.set_prompt(f"a road {seq}")
                    await asyncio.sleep(0.001)

            flooding = asyncio.create_task(flood())
            frames, seen, begun = aiter(viewer), [], time.monotonic()
            while time.monotonic() - begun < 3:
                seen.append(await anext(frames))
            await flooding
        assert len(seen) > 3 * 8 and {frame.header.epoch for frame in seen} == {0}
        assert {frame.header.label for frame in seen} == {"D"}
        gaps = [b.received - a.received for a, b in itertools.pairwise(seen)]
        assert max(gaps) < 1.0, "far less than a repair"
        assert theatre.show.seed == 42 and theatre.show.prompt != world.show.prompt

    run(body)

"""The lobby: its API as programs use it, and its page in a real Chromium."""

import asyncio
import re
import time

import httpx
import numpy as np
import pytest

from pipeline import waiting
from pipeline.beginning import Beginning
from pipeline.clients.lobby import Lobby
from pipeline.host import PastDrive, Whose
from pipeline.web import uploads
from pipeline.web.site import PAGE
from tests.browser import box_of, chromium, eventually, needs_chromium, page, playing, so, text
from tests.dream import DreamSource, again, dreamed
from tests.live import BEARER, TOKEN, live
from tests.until import until


def run(body, many=None, **settings):
    async def whole():
        async with (
            live(many=many or {}, **settings) as theatre,
            httpx.AsyncClient(base_url=f"{theatre.origin}/lobby/", headers=BEARER) as http,
        ):
            return await body(theatre, http)

    return asyncio.run(whole())


def test_worlds_begin_are_listed_seen_and_ended():
    async def body(theatre, http):
        answer = await http.post(
            "worlds", json={"prompt": "a car at night", "seed": 7, "name": "Ann"}
        )
        made = answer.json()["world"]
        assert answer.status_code == 201 and made["name"] == "Ann" and made["seed"] == 7
        world = theatre.worlds.get(made["id"])
        await until(lambda: world.show.ready)
        lobby = (await http.get("worlds")).json()
        assert [one["id"] for one in lobby["worlds"]] == ["first", made["id"]]
        assert (lobby["room"], lobby["most"], lobby["waiting"]) == (6, 8, 0)
        card = lobby["worlds"][1]
        assert (card["prompt"], card["state"], card["driven"]) == (
            "a car at night",
            "playing",
            False,
        )
        assert set(card["links"]) == {"driver", "watcher"}
        entered = await http.get(card["links"]["watcher"], headers={"Authorization": ""})
        assert entered.status_code == 200 and "<canvas" in entered.text

        picture = await http.get(f"pictures/{made['id']}")
        assert picture.status_code == 200 and picture.content[:2] == b"\xff\xd8"
        world.show.pause()
        shown = (await http.get(f"pictures/{made['id']}")).headers["etag"]
        again = await http.get(f"pictures/{made['id']}", params={"after": shown})
        assert again.status_code == 204

        assert (await http.delete(f"worlds/{made['id']}")).status_code == 204
        await asyncio.wait_for(world.over.wait(), 5)
        assert [one["id"] for one in (await http.get("worlds")).json()["worlds"]] == ["first"]

    run(body)


def past():
    """Drives of earlier launchers."""
    named = ((1, "0a1b2c3d", "Ann"), (2, "first", "the first world"), (3, "", ""))
    noted = time.time() - 70
    return [
        PastDrive(f"2026-{n}", Whose(id, name), "mine", "a sea", 7, 60.0 * n, n == 2, noted)
        for n, id, name in named
    ]


def test_drives_of_earlier_launchers_go_on_with_their_links():
    async def body(theatre, http):
        assert (await http.get("drives")).json() == {"drives": []}
        theatre.worlds.host.past = past()
        listed = (await http.get("drives")).json()["drives"]
        assert [one["drive"] for one in listed] == ["2026-1", "2026-2", "2026-3"]
        assert (listed[0]["name"], listed[0]["prompt"], listed[0]["seed"]) == ("Ann", "a sea", 7)
        assert listed[1]["ended"] and listed[1]["seconds"] == 120.0 and 69 < listed[1]["ago"] < 99
        assert "launcher" not in listed[0] and "world" not in listed[0]

        answer = await http.post("worlds", json={"drive": "2026-1"})
        card = answer.json()["world"]
        assert answer.status_code == 201 and (card["id"], card["name"]) == ("0a1b2c3d", "Ann")
        world = theatre.worlds.get("0a1b2c3d")
        await until(lambda: world.show.ready)
        assert (world.show.seed, world.show.prompt) == (7, "a sea")
        assert world.record()["continued"] == {"journal": "2026-1"}
        for bad in ("2026-1", "../x", "", "x" * 5000):
            answer = await http.post("worlds", json={"drive": bad})
            assert answer.status_code == 400 and answer.text.count("\n") == 1
        for wrong in ({"drive": 5}, {"drive": "2026-2", "seed": 1}):
            assert (await http.post("worlds", json=wrong)).status_code == 400
        for name in ("2026-2", "2026-3"):
            card = (await http.post("worlds", json={"drive": name})).json()["world"]
            assert card["id"] not in ("first", "0a1b2c3d", ""), "an address of its own"
        assert len(theatre.worlds) == 4 and (await http.get("drives")).json() == {"drives": []}

    run(body)


def test_a_drive_waits_for_room_like_any_world():
    async def body(theatre, http):
        theatre.worlds.host.past = past()
        queued = await http.post("worlds", json={"drive": "2026-1"})
        assert queued.status_code == 202
        made = asyncio.create_task(theatre.worlds.in_turn(Beginning.again(past()[2])))
        theatre.worlds.end("first")
        await until(lambda: not len(theatre.worlds))
        begun = await http.get(f"queue/{queued.json()['ticket']}")
        assert begun.status_code == 201 and begun.json()["world"]["name"] == "Ann"
        await http.delete("worlds/0a1b2c3d")
        assert (await asyncio.wait_for(made, 5)).name == "world 3"

    run(body, many={"most": 1})


def test_without_fields_a_world_has_the_launchers_prompt_and_a_seed_of_its_own():
    async def body(theatre, http):
        seeds = {(await http.post("worlds")).json()["world"]["seed"] for _ in range(2)}
        assert len(seeds) == 2
        assert {world.show.prompt for world in theatre.worlds} == {theatre.show.prompt}

    run(body)


def test_a_bad_request_is_one_line_and_no_world():
    bad = (
        *(b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 60_000, b"x" * 70_000),
        *(b'{"prompt": 5}', b'{"prompt": " "}', b'{"path": "/etc/passwd"}'),
        *(b'{"seed": -1}', b'{"seed": 1e3}', b'{"seed": true}'),
        *(b'{"name": "../../x"}', b'{"name": ["x"]}'),
    )

    async def body(theatre, http):
        for content in bad:
            answer = await http.post("worlds", content=content)
            assert answer.status_code == 400 and answer.text.count("\n") == 1, content[:40]
            assert len(answer.text) < 300 and len(theatre.worlds) == 1 and theatre.worlds.room == 7

    run(body)


def test_what_is_not_there_is_404_and_changes_nothing():
    async def body(theatre, http):
        for name in ("0123abcd", "..%2ffirst", "%2e%2e", "x" * 2000):
            assert (await http.delete(f"worlds/{name}")).status_code == 404
            assert (await http.get(f"pictures/{name}")).status_code == 404
            assert (await http.get(f"queue/{name}")).status_code == 404
            assert (await http.delete(f"queue/{name}")).status_code == 404
        assert len(theatre.worlds) == 1

    run(body)


def test_only_the_launchers_token_opens_it_and_a_cookie_only_its_page():
    async def body(theatre, http):
        driver = theatre.gateway.sites.address("first", "driver").partition("token=")[2]
        for headers in ({"Authorization": ""}, {"Authorization": f"Bearer {driver}"}):
            for path in ("", "worlds", "pictures/first", "static/lobby/app.js"):
                assert (await http.get(path, headers=headers)).status_code == 401
        async with httpx.AsyncClient(base_url=http.base_url) as browser:
            opened = await browser.get("", params={"token": TOKEN})
            assert opened.status_code == 200 and "path" not in opened.headers["set-cookie"].lower()
            assert (await browser.get("static/lobby/app.js")).status_code == 200
            for ask in (
                browser.get("worlds"),
                browser.post("worlds"),
                browser.delete("worlds/first"),
            ):
                assert (await ask).status_code == 403, "a cookie knows no ports"
            assert (await browser.get("pictures/first")).status_code == 403
        assert len(theatre.worlds) == 1
        typed = await http.get(f"{theatre.origin}/lobby?x=1")
        assert typed.status_code == 307 and typed.headers["location"] == "lobby/?x=1"

    run(body)


def test_a_full_house_has_a_queue_with_places_and_who_leaves_it_is_forgotten(monkeypatch):
    monkeypatch.setattr(waiting, "GONE_SECONDS", 1.0)

    async def body(theatre, http):
        made = (await http.post("worlds")).json()["world"]
        gone, first, second = [await http.post("worlds", json={"seed": n}) for n in range(3)]
        assert [one.status_code for one in (gone, first, second)] == [202] * 3
        assert [one.json()["place"] for one in (gone, first, second)] == [1, 2, 3]
        assert first.json()["estimate"] is None, "nothing has ended yet"
        tickets = [one.json()["ticket"] for one in (gone, first, second)]
        for _ in range(5):
            await asyncio.sleep(0.3)
            places = [(await http.get(f"queue/{ticket}")).json()["place"] for ticket in tickets[1:]]
        assert places == [1, 2] and (await http.get(f"queue/{tickets[0]}")).status_code == 404
        await http.delete(f"worlds/{made['id']}")
        await until(lambda: len(theatre.worlds) == 1)
        last = await http.get(f"queue/{tickets[2]}")
        assert last.status_code == 202 and last.json()["estimate"] > 0
        assert (await http.post("worlds")).status_code == 202, (
            "a newcomer is not served before them"
        )
        begun = await http.get(f"queue/{tickets[1]}")
        assert begun.status_code == 201 and begun.json()["world"]["seed"] == 1
        assert (await http.delete(f"queue/{tickets[2]}")).status_code == 204
        assert theatre.worlds.tally.opened == 3

    run(body, many={"most": 2})


def test_a_full_queue_is_said(monkeypatch):
    monkeypatch.setattr(waiting, "MOST_WAITING", 1)

    async def body(theatre, http):
        assert (await http.post("worlds")).status_code == 202
        refused = await http.post("worlds")
        assert refused.status_code == 429 and "try again later" in refused.text

    run(body, many={"most": 1})


def test_where_one_world_is_all_the_lobby_says_so():
    async def whole():
        async with live() as theatre, httpx.AsyncClient(headers=BEARER) as http:
            refused = await http.post(f"{theatre.origin}/lobby/worlds")
            assert refused.status_code == 409 and "one world only" in refused.text

    asyncio.run(whole())


def test_a_saved_world_goes_on_as_another_one(tmp_path, monkeypatch):
    parts = dreamed(tmp_path)

    async def source():
        return DreamSource(parts)

    async def body(theatre, http):
        show = theatre.show
        await until(lambda: show.latent >= 12)
        path = await show.past.save(show.past.at(10, show.latent))
        lobby, content = Lobby(theatre.url), path.read_bytes()
        card = await lobby.open_world(path, "Ann")
        world = theatre.worlds.get(card.id)
        assert (world.name, world.show.seed, world.show.prompt) == ("Ann", 42, show.prompt)
        seen: dict[int, np.ndarray] = {}
        watching = world.show.subscribe()
        while len(seen) < 16 and await watching.wait():
            watching.events()
            if frame := watching.frame():
                seen[frame.index] = frame.image
        watching.close()
        alone = again(parts, world.show.take())
        of_take = {index: image for index, image in seen.items() if index < len(alone)}
        assert min(seen) >= 40 and len(of_take) > 8
        assert all((alone[index] == image).all() for index, image in of_take.items())

        files = {"content-type": "application/octet-stream"}
        monkeypatch.setattr(uploads, "LARGEST_UPLOAD", len(content) + 9)
        for bad in (b"", b"garbage", content[:-100], content[:3000] + bytes(3000), bytes(9**6)):
            answer = await http.post("worlds", content=bad, headers=files)
            assert answer.status_code == 400 and answer.text.count("\n") == 1, answer.text
            assert str(tmp_path) not in answer.text and "/tmp" not in answer.text
        answer = await http.post("worlds?name=a/b", content=content, headers=files)
        assert answer.status_code == 400 and len(theatre.worlds) == 2

    run(body, source=source, recordings=tmp_path / "recordings")


def test_a_program_has_no_saved_worlds():
    async def body(theatre, http):
        files = {"content-type": "application/octet-stream"}
        answer = await http.post("worlds", content=b"x", headers=files)
        assert answer.status_code == 400 and "keeps no moments" in answer.text

    run(body)


def test_the_lobbys_page_is_small_and_needs_nothing_from_elsewhere():
    for path in (PAGE / "lobby").iterdir():
        assert "http://" not in path.read_text() and "https://" not in path.read_text()
        assert path.stat().st_size < 10_000


LIT = """id => { const c = document.querySelectorAll('.card canvas')[id];
  return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((x, i) => i % 4 < 3 && x > 40); }"""


@needs_chromium
@pytest.mark.timeout(180)
def test_a_person_begins_sees_joins_and_ends_a_world(tmp_path):
    async def body(theatre, http):
        async with chromium() as browser, page(browser, theatre.url) as own:
            await playing(own)
            missing: list[str] = []
            own.on("response", lambda r: missing.append(r.url) if r.status == 404 else None)
            await own.click("#lobby")
            await own.wait_for_url("**/lobby/")
            await own.click("#back")
            await playing(own)
            assert own.url == f"{theatre.origin}/"
            await own.click("#lobby")
            await own.wait_for_selector(".card")
            (tmp_path / "notes.txt").write_text("no world")
            await own.set_input_files("#file", tmp_path / "notes.txt")
            await so(
                own, "document.getElementById('toasts').textContent.includes('No world in notes')"
            )
            await own.set_viewport_size({"width": 1280, "height": 500})
            assert re.search(r"1 of 2 here, room for 1 more", await text(own, "#count"))
            await own.get_by_text("a red car on a road at night").click()
            assert await own.input_value("#prompt") == "a red car on a road at night"
            await own.fill("#seed", "7")
            await own.fill("#called", "Ann/s")
            await own.keyboard.press("Enter")
            await so(own, "document.getElementById('toasts').textContent.includes('name:')")
            await own.fill("#called", "Ann")
            await own.keyboard.press("Enter")
            await own.wait_for_selector(".card:nth-child(2)")
            world = list(theatre.worlds)[1]
            assert (world.show.seed, world.name) == (7, "Ann")
            await eventually(lambda: own.evaluate(LIT, 1))
            joins = await own.evaluate("document.activeElement.ariaLabel")
            assert joins == f"Join Ann, {world.id}", "told from others of her name"
            assert await text(own, ".card:nth-child(2) small") == world.id
            assert await text(own, ".card:first-child h3") == "the first world"
            begun = await own.locator(".card:nth-child(2)").bounding_box()
            assert begun and begun["y"] >= 0 and begun["y"] + begun["height"] <= 500, "it is seen"

            await own.fill("#prompt", "a sea")
            await own.click("#begin")
            await own.wait_for_selector("#queue:not([hidden])")
            assert "Place 1 in the queue" in await text(own, "#queue-text")
            await own.click("#leave")
            assert await own.is_hidden("#queue") and await own.is_enabled("#begin")

            async with own.context.expect_page() as opened:
                await own.click(".card:nth-child(2) .join")
            joined = await opened.value
            await playing(joined)
            await so(
                own, "document.querySelectorAll('.card .state')[1].textContent.includes('driven')"
            )
            assert f"/worlds/{world.id}/" in joined.url and "token" not in joined.url
            assert await joined.is_hidden("#lobby"), "only the launcher's owner finds the lobby"

            for width in (360, 1280):
                await own.set_viewport_size({"width": width, "height": 800})
                assert await own.evaluate("document.documentElement.scrollWidth") <= width
                for button in await own.locator(".card button:visible").all():
                    box = await button.bounding_box()
                    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
                await own.screenshot(path=tmp_path / f"lobby-{width}.png", full_page=True)
            await own.focus(".card:nth-child(2) .end")
            await own.keyboard.press("Enter")
            assert f"Ann, {world.id}" in await text(own, "#ask-text")
            await own.keyboard.press("Enter")
            await so(own, "document.querySelectorAll('.card').length === 1")
            assert not missing, "nothing is asked of what has ended"
            await joined.wait_for_selector("#theatre[data-phase=ended]")
            assert "ended in the lobby" in await text(joined, "#banner")
            await joined.reload()
            assert await text(joined, "h1") == "This world has ended"

    run(body, many={"most": 2})


@needs_chromium
@pytest.mark.timeout(120)
def test_a_person_goes_on_with_a_drive_that_was_cut_off(tmp_path):
    async def body(theatre, http):
        theatre.worlds.host.past = past()
        async with (
            chromium() as browser,
            page(browser, f"{theatre.origin}/lobby/?token={TOKEN}") as tab,
        ):
            await tab.wait_for_selector("#go-on:not([hidden])")
            lines = [await one.inner_text() for one in await tab.locator("#drives .state").all()]
            assert lines[0] == "cut off 1 minute ago · 1:00 long · seed 7"
            assert lines[1].startswith("ended 1 minute ago · 2:00 long")
            named = [await one.inner_text() for one in await tab.locator("#drives small").all()]
            assert named == ["2026-1", "2026-2", "2026-3"], "as --continue and the list call them"
            for width in (360, 1280):
                await tab.set_viewport_size({"width": width, "height": 800})
                assert await tab.evaluate("document.documentElement.scrollWidth") <= width
                await tab.screenshot(path=tmp_path / f"drives-{width}.png", full_page=True)
            await tab.focus("#drives button")
            await tab.keyboard.press("Enter")
            await tab.wait_for_selector("#cards .card:nth-child(2)")
            assert await tab.evaluate("document.activeElement.ariaLabel") == "Join Ann, 0a1b2c3d"
            await so(tab, "document.querySelectorAll('#drives .card').length === 2")
            assert theatre.worlds.get("0a1b2c3d").name == "Ann"

    run(body)


@needs_chromium
@pytest.mark.timeout(120)
def test_a_watchers_page_offers_nothing_that_it_may_not_do():
    async def body(theatre, http):
        address = theatre.gateway.sites.address("first", "watcher")
        async with chromium() as browser, page(browser, f"{theatre.origin}/{address}") as tab:
            await playing(tab)
            assert await text(tab, "#role-text") == "you watch" and await tab.is_hidden("#take")
            for control in ("prompt", "pause", "reset", "new-seed", "record"):
                assert await tab.is_disabled(f"#{control}"), control
            await tab.keyboard.down("ArrowLeft")
            await asyncio.sleep(0.5)
            assert theatre.show.held == "D" and not await text(tab, "#toasts")
            assert not await tab.query_selector("#keys .lit")
            assert await tab.query_selector("#keys.watching")
            await tab.set_viewport_size({"width": 360, "height": 740})
            buttons, name = await box_of(tab, "#show-help"), await box_of(tab, "#name")
            assert buttons["x"] > 300 and name["y"] >= buttons["y"] + buttons["height"]
            assert await tab.is_hidden("#lobby")

    run(body)

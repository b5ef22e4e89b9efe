"""The page in a real Chromium, driven by real keys and clicks: what a driver does."""

import asyncio
import re

import pytest

from pipeline.web.messages import HEADER_BYTES
from pipeline.web.site import PAGE
from tests.browser import (
    PIXELS,
    box_of,
    eventually,
    needs_chromium,
    page,
    playing,
    so,
    text,
    turn_left,
)
from tests.live import TOKEN, simulator
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]


def test_the_printed_address_opens_the_world_and_leaves_no_key_behind(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            assert TOKEN not in tab.url and await tab.evaluate("document.cookie") == ""
            assert (
                await text(tab, "#name") == "test road"
                and await text(tab, "#role-text") == "you drive"
            )
            assert await text(tab, "#seed-value") == "42" and await tab.title() == "test road, live"
            pixels = await tab.evaluate(PIXELS)
            await asyncio.sleep(0.5)
            assert len(pixels) == 144 * 96 * 4 and await tab.evaluate(PIXELS) != pixels, (
                "the picture moves"
            )
            style = await tab.evaluate(
                "getComputedStyle(document.getElementById('picture')).imageRendering"
            )
            size = await tab.evaluate(
                "document.getElementById('picture').getBoundingClientRect().width"
            )
            assert style == "pixelated", "small pictures grow by whole pixels"
            assert size == 6 * 144, "the largest that fits here; the line below leaves it room"

    run(body)


KEYS = (
    (["KeyW"], "D", ["straight"]),
    (["ArrowUp", "ArrowRight"], "DR", ["right", "straight"]),
    (["KeyA"], "DL", ["left"]),
    (["ArrowLeft"], "DL", ["left"]),
    (["KeyD"], "DR", ["right"]),
    (["ArrowRight"], "DR", ["right"]),
    (["KeyS"], "B", ["reverse"]),
    (["ArrowDown", "ArrowLeft"], "BL", ["left", "reverse"]),
    (["KeyS", "KeyD"], "BR", ["reverse", "right"]),
    (["ShiftLeft"], "N", ["coast"]),
    (["ShiftRight", "KeyA"], "NL", ["coast", "left"]),
    (["ShiftLeft", "KeyD"], "NR", ["coast", "right"]),
)


def test_every_key_lights_up_and_steers_while_it_is_held(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            for codes, label, lit in KEYS:
                for code in codes:
                    await tab.keyboard.down(code)
                await until(lambda label=label: theatre.show.held == label)
                shown = await tab.locator("#keys .lit").evaluate_all(
                    "keys => keys.map(k => k.dataset.key)"
                )
                assert sorted(shown) == lit
                if label in ("DL", "BL"):
                    await asyncio.sleep(1.5)
                    assert theatre.show.held == label, (
                        "held keys stay held, because the page repeats them"
                    )
                for code in codes:
                    await tab.keyboard.up(code)
                await until(lambda: theatre.show.held == "D")
                assert await tab.locator("#keys .lit").count() == 0

    run(body)


def test_a_world_that_knows_its_speed_and_heading_shows_them_on_the_picture(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await so(tab, "document.getElementById('motion-speed').textContent == '36 km/h'")
            assert await text(tab, "#motion-point") in ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
            inner, outer = await box_of(tab, "#motion p"), await box_of(tab, "#picture")
            assert outer["x"] <= inner["x"] and outer["y"] <= inner["y"], "on the picture"
            assert inner["y"] + inner["height"] <= outer["y"] + outer["height"]
            before = await tab.get_attribute("#motion-needle", "transform")
            await tab.keyboard.down("KeyA")
            await tab.keyboard.down("KeyS")
            await so(tab, "document.getElementById('motion-speed').textContent == '29 km/h back'")
            assert await tab.get_attribute("#motion-needle", "transform") != before

    run(body, source=simulator)


def test_a_world_that_does_not_know_its_speed_shows_none(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await until(lambda: theatre.show.latent > 8)
            assert not await tab.is_visible("#motion")

    run(body)


def test_keys_are_named_in_words_and_never_by_signal_letters(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            words = await tab.locator("#keys button").all_inner_texts()
            assert sorted(word.strip() for word in words) == [
                "coast",
                "left",
                "reverse",
                "right",
                "straight",
            ]
            everything = await tab.inner_text("body")
            assert not re.search(r"\b(DL|DR|BL|BR|NL|NR)\b", everything)

    run(body)


def test_the_first_picture_of_a_key_is_measured_and_shown(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.press("KeyH")
            for code in ("KeyA", "KeyD", "KeyA"):
                await tab.keyboard.down(code)
                await asyncio.sleep(0.6)
                await tab.keyboard.up(code)
                await asyncio.sleep(0.4)
            await eventually(lambda: seen(tab))
            figures = await text(tab, "#hud")
            for word in (
                "generated",
                "painted",
                "wait for a step",
                "DiT",
                "decode",
                "transport",
                "paint",
                "key to photon",
            ):
                assert word in figures
            for word in ("drops", "queue", "kbit/s", "quality", "round trip", "late slots"):
                assert word in figures
            facts = dict(
                zip(
                    await tab.locator("#hud dt").all_inner_texts(),
                    await tab.locator("#hud dd").all_inner_texts(),
                )
            )
            assert all(4 < float(facts[name].split()[0]) < 20 for name in ("generated", "painted"))
            assert int(facts["link"].split()[0]) > 50 and int(facts["quality"]) in (85, 75, 60, 45)
            assert (
                facts["queue"].isdigit()
                and facts["drops"].isdigit()
                and float(facts["round trip"].split()[0]) > 0
            )
            cells = await tab.locator("#hud-split tr").evaluate_all(
                "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
            )
            assert all(
                middle.isdigit() and high.isdigit() and int(middle) <= int(high)
                for _, middle, high in cells
            )
            assert all(
                await tab.locator("#hud-split tr").evaluate_all("rows => rows.map(r => r.title)")
            )
            row = await tab.query_selector("#hud-split tr")
            await asyncio.sleep(0.7)
            assert row and await row.is_visible(), "it stays while one reads what it is"
            assert await tab.locator("#hud-bar i").count() >= 3, (
                "the parts are drawn as shares of a bar"
            )
            await tab.keyboard.press("KeyH")
            assert not await tab.is_visible("#hud")

    async def seen(tab):
        row = await tab.locator("#hud-split tr.total td").all_inner_texts()
        return all(cell.isdigit() and 0 < int(cell) < 5000 for cell in row) and len(row) == 2

    run(body)


def test_keys_are_let_go_when_the_window_loses_its_focus(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.down("KeyA")
            await until(lambda: theatre.show.held == "DL")
            await tab.evaluate("window.dispatchEvent(new Event('blur'))")
            await until(lambda: theatre.show.held == "D", 5)

    run(body)


def test_the_prompt_is_pending_until_its_pictures_arrive_and_typing_does_not_steer(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            before = await tab.evaluate(PIXELS)
            await tab.keyboard.press("KeyT")
            await so(tab, "document.activeElement.id == 'prompt'")
            await tab.keyboard.type("wasd <b>road</b> at night", delay=10)
            assert theatre.show.held == "D"
            theatre.show.pause()
            await tab.keyboard.press("Enter")
            await eventually(lambda: is_text(tab, "#prompt-state", "waits until you go on"))
            theatre.show.resume()
            await eventually(lambda: is_text(tab, "#prompt-state", ""))
            assert theatre.show.prompt == "wasd <b>road</b> at night"
            assert await tab.input_value("#prompt") == "wasd <b>road</b> at night"
            await asyncio.sleep(0.5)
            after = await tab.evaluate(PIXELS)
            assert sum(after[: 144 * 4 * 20]) < sum(before[: 144 * 4 * 20]) * 0.8, (
                "the sky grew dark"
            )
            await tab.select_option("#presets", index=1)
            await until(lambda: theatre.show.prompt == theatre.show.info.presets[0])

    async def is_text(tab, selector, wanted):
        return await text(tab, selector) == wanted

    run(body)


def test_pause_reset_new_seed_and_copying(run):
    async def body(theatre, browser):
        async with page(
            browser, theatre.url, permissions=["clipboard-read", "clipboard-write"]
        ) as tab:
            await playing(tab)
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            assert (
                theatre.show.paused and await tab.get_attribute("#pause", "aria-pressed") == "true"
            )
            await tab.click("#pause")
            await playing(tab)
            await tab.keyboard.press("KeyR")
            await until(lambda: theatre.show.epoch == 1)
            assert theatre.show.seed == 42
            await tab.click("#new-seed")
            await until(lambda: theatre.show.seed != 42)
            await so(
                tab, f"document.getElementById('seed-value').textContent == '{theatre.show.seed}'"
            )
            await tab.click("#seed")
            await so(tab, f"navigator.clipboard.readText().then(t => t == '{theatre.show.seed}')")
            await tab.evaluate("document.getElementById('seed-value').textContent = '888888'")
            first, last = await box_of(tab, "#pause"), await box_of(tab, "#show-drawer")
            assert first["y"] == last["y"], "a longer seed makes no second row"

    run(body)


def test_after_a_click_the_keys_drive_on(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.click("#record")
            await so(tab, "document.getElementById('record').ariaPressed == 'true'")
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            assert theatre.show.recordings.running is not None, (
                "the space bar pauses, it does not press the button again"
            )
            assert await tab.get_by_role("button", name="Record", exact=True).count() == 1, (
                "its name is no clock"
            )
            for pressed in ("false", "true", "false"):
                await tab.click("#record")
                await so(tab, f"document.getElementById('record').ariaPressed == '{pressed}'")
            await so(tab, "document.getElementById('toasts').textContent.includes('no video')")

    run(body, recordings=tmp_path)


def test_a_replay_link_drives_the_same_drive_again(run):
    async def body(theatre, browser):
        allowed = ["clipboard-read", "clipboard-write"]
        async with (
            theatre.watching() as seen,
            page(browser, theatre.url, permissions=allowed) as tab,
        ):
            await playing(tab)
            await turn_left(theatre, tab)
            theatre.show.pause()
            await tab.click("#replay")
            await so(tab, "navigator.clipboard.readText().then(t => t.includes('#seed=42'))")
            address = await tab.evaluate("navigator.clipboard.readText()")
            take = theatre.show.take()
            theatre.show.resume()
            theatre.show.reset(7)
            await tab.goto("about:blank")
            await tab.goto(address)
            await tab.wait_for_selector("#ask[open]")
            assert "seed 42" in await text(tab, "#ask-text")
            await tab.click("#ask-yes")
            await until(
                lambda: (
                    theatre.show.seed == 42 and len(theatre.show.take().labels) >= len(take.labels)
                )
            )
            assert theatre.show.take().labels[: len(take.labels)] == take.labels
            again = theatre.show.epoch
            both = [
                index
                for epoch, index in seen
                if epoch == 0 and index < 4 * len(take.labels) and (again, index) in seen
            ]
            assert len(both) > 12 and all(seen[0, index] == seen[again, index] for index in both), (
                "the same pictures"
            )
            assert "#" not in tab.url

    run(body)


def test_recording_shows_its_time_and_gives_both_files(tmp_path, run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.click("#record")
            await so(tab, "document.getElementById('record-text').textContent == '0:01'")
            await tab.click("#record")
            await tab.wait_for_selector("#files li:nth-child(2)", state="attached")
            await tab.click("#show-drawer")
            assert await text(tab, "#record-text") == "Record"
            names = [name.strip() for name in await tab.locator("#files a").all_inner_texts()]
            assert sorted(name.rsplit(".")[-1] for name in names) == ["jsonl", "mp4"]
            for name in names:
                async with tab.expect_download() as download:
                    await tab.click(f"#files a:text('{name}')")
                file = await (await download.value).path()
                assert file.stat().st_size > 300

    run(body, recordings=tmp_path)


def test_two_pages_one_wheel(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as first, page(browser, theatre.url) as second:
            await playing(first)
            await playing(second)
            await so(
                first, "document.getElementById('role-text').textContent == '1 watching, you drive'"
            )
            assert await text(second, "#role-text") == "you watch"
            assert await second.is_disabled("#pause") and not await first.is_visible("#take")
            await second.keyboard.down("KeyA")
            await asyncio.sleep(0.4)
            assert theatre.show.held == "D", "who watches does not steer"
            assert not await second.query_selector("#keys .lit"), "nor do the keys say so"
            await second.keyboard.up("KeyA")
            await second.click("#take")
            await so(
                second,
                "document.getElementById('role-text').textContent == '1 watching, you drive'",
            )
            await second.keyboard.down("KeyA")
            await until(lambda: theatre.show.held == "DL")
            await so(first, "document.getElementById('role-text').textContent == 'you watch'")

    run(body)


def test_page_and_server_agree_on_the_header():
    assert f"HEADER_BYTES = {HEADER_BYTES};" in (PAGE / "wire.js").read_text()

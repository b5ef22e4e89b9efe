"""The page in a real Chromium, for everybody and everywhere: phones, gamepads, no mouse, lost
links, other hosts."""

import asyncio
import contextlib
import time

import pytest

from tests.browser import (
    PIXELS,
    box_of,
    chromium,
    eventually,
    needs_chromium,
    page,
    playing,
    so,
    text,
)
from tests.live import TOKEN, live, socket
from tests.tls import certificate, tls_proxy
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]


def test_a_lost_connection_is_said_within_two_seconds_and_the_page_comes_back_by_itself(desk):
    async def whole(browser):
        async with contextlib.AsyncExitStack() as pages:
            async with live() as theatre:
                tab = await pages.enter_async_context(page(browser, theatre.url))
                await playing(tab)
                await tab.keyboard.down("KeyA")
                await until(lambda: theatre.show.held == "DL")
                await theatre.gateway.close()
                await tab.wait_for_selector("#theatre[data-phase=lost]", timeout=2000)
                assert (
                    "Keys released" in await text(tab, "#banner")
                    and await tab.locator("#keys .lit").count() == 0
                )
                assert theatre.show.held == "D"
            async with live(port=theatre.port):
                await playing(tab)
                assert (
                    not await tab.is_visible("#banner")
                    and await text(tab, "#role-text") == "you drive"
                )

    desk(whole)


def test_the_page_asks_again_less_and_less_often(desk):
    async def whole(browser):
        async with contextlib.AsyncExitStack() as pages:
            async with live() as theatre:
                tab = await pages.enter_async_context(page(browser, theatre.url))
                await playing(tab)
                tries: list[float] = []
                tab.on("websocket", lambda _: tries.append(time.monotonic()))
            await eventually(lambda: enough(tries), 30)
            waits = [later - sooner for sooner, later in zip(tries, tries[1:])]
            assert waits[0] < waits[2] < waits[4] and waits[4] > 2, waits

    async def enough(tries):
        return len(tries) > 5

    desk(whole)


PHASES = """() => { window.phases = []; const theatre = document.getElementById('theatre');
  new MutationObserver(() => window.phases.push(theatre.dataset.phase)).observe(theatre, { attributes: true }); }"""


def test_a_page_that_was_held_up_does_not_think_the_link_is_lost(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(PHASES)
            await tab.evaluate(
                "() => { const end = performance.now() + 2500; while (performance.now() < end); }"
            )
            await asyncio.sleep(1)
            assert (
                "lost" not in await tab.evaluate("window.phases") and len(theatre.room.viewers) == 1
            )

    run(body)


def test_a_page_that_paints_nothing_gets_two_frames_and_no_more(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            viewer = theatre.room.viewers[0]
            await tab.evaluate(
                "() => { window.paint = requestAnimationFrame; window.requestAnimationFrame = () => 0; }"
            )
            painted_last = viewer.dropped  # a paint that was asked for before may still be answered
            await until(lambda: len(viewer._in_flight) == 2 and viewer.dropped > painted_last + 8)
            sent, dropped = viewer.sent_bytes, viewer.dropped
            await until(lambda: viewer.dropped > dropped + 8)
            assert viewer.sent_bytes == sent and len(viewer._in_flight) == 2, (
                "frames are answered after the paint only"
            )

    run(body)


def test_a_world_with_another_key_is_explained(desk):
    async def whole(browser):
        async with contextlib.AsyncExitStack() as pages:
            async with live() as theatre:
                tab = await pages.enter_async_context(page(browser, theatre.url))
                await playing(tab)
            async with live(port=theatre.port, token="another-token-after-the-restart"):
                await so(
                    tab, "document.getElementById('banner').textContent.includes('new key')", 30
                )

    desk(whole)


def test_loading_is_shown_from_the_first_second_and_the_end_is_said(desk):
    async def whole(browser):
        async with live("--delay", "4", wait=False) as theatre, page(browser, theatre.url) as tab:
            await tab.wait_for_selector("#theatre[data-phase=loading]", timeout=5000)
            assert await tab.is_visible("#loading") and await text(tab, "#loading-now")
            await playing(tab)
            assert not await tab.is_visible("#loading")
            theatre.show.stop("that was all")
            await so(tab, "document.getElementById('banner').textContent.includes('that was all')")

    desk(whole)


def test_it_fits_a_phone_and_fingers_steer(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url, 360, 740, has_touch=True, is_mobile=True) as tab:
            await playing(tab)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
            await tab.tap("#show-hud")
            picture, hud = await box_of(tab, "#picture"), await box_of(tab, "#hud")
            assert hud["y"] >= picture["y"] + picture["height"] - 1, (
                "the figures do not cover the small picture"
            )
            assert await tab.evaluate(
                "(h => h.scrollHeight <= h.clientHeight)(document.getElementById('hud'))"
            )
            for selector in (
                "#picture",
                "#keys",
                "#prompt",
                "#pause",
                "#record",
                "#replay",
                "#show-help",
                "#hud",
            ):
                box = await box_of(tab, selector)
                assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["width"] > 20, (
                    selector
                )
            zones = await box_of(tab, "#zones")
            assert zones["height"] == picture["height"], (
                "fingers steer on the picture, not on the figures"
            )
            await tab.tap("#show-hud")
            touch = await tab.context.new_cdp_session(tab)
            for selector, at, label in (
                ("#zones", 0.1, "DL"),
                ("#zones", 0.9, "DR"),
                ('#keys [data-key="reverse"]', 0.5, "B"),
            ):
                box = await box_of(tab, selector)
                point = {"x": box["x"] + at * box["width"], "y": box["y"] + box["height"] / 2}
                await touch.send(
                    "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]}
                )
                await until(lambda label=label: theatre.show.held == label)
                await touch.send(
                    "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
                )
                await until(lambda: theatre.show.held == "D")

    run(body)


# Test machines have no gamepad: the browser's list of them is replaced, everything after it is the
# page as it is.
GAMEPAD = """() => { window.pad = { index: 0, mapping: 'standard', axes: [0, 0],
     buttons: Array.from({length: 17}, () => ({pressed: false})) };
  navigator.getGamepads = () => [window.pad]; window.dispatchEvent(new Event('gamepadconnected')); }"""


def test_a_gamepad_steers_with_stick_and_cross_beyond_the_dead_zone(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(GAMEPAD)
            for change, label in (
                ("pad.axes = [-0.9, 0]", "DL"),
                ("pad.axes = [0.2, 0.1]", "D"),
                ("pad.axes = [0.8, 0.8]", "BR"),
                ("pad.axes = [0, 0]; pad.buttons[15].pressed = true", "DR"),
                ("pad.buttons[15].pressed = false; pad.buttons[2].pressed = true", "N"),
                ("pad.buttons[2].pressed = false", "D"),
            ):
                await tab.evaluate(change)
                await until(lambda label=label: theatre.show.held == label)

    run(body)


def test_it_can_be_used_without_a_mouse_and_without_seeing(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            tree = await tab.locator("#theatre").aria_snapshot()
            for role in (
                'button "Pause"',
                'button "Record"',
                'textbox "The world in words"',
                'img "Live picture',
                'button "left"',
            ):
                assert role in tree, role
            await tab.evaluate("document.activeElement.blur()")
            reached = set()
            for _ in range(24):
                await tab.keyboard.press("Tab")
                reached.add(
                    await tab.evaluate(
                        "document.activeElement.id || document.activeElement.dataset.key || ''"
                    )
                )
                outline = await tab.evaluate(
                    "getComputedStyle(document.activeElement).outlineStyle"
                )
                assert outline != "none" or await tab.evaluate(
                    "document.activeElement == document.body"
                )
            wanted = {
                "prompt",
                "pause",
                "reset",
                "new-seed",
                "record",
                "replay",
                "fullscreen",
                "show-help",
                "left",
                "right",
            }
            assert wanted <= reached
            await tab.focus('#keys [data-key="left"]')
            await tab.keyboard.down("Space")
            await until(lambda: theatre.show.held == "DL")
            await tab.keyboard.up("Space")
            await until(lambda: theatre.show.held == "D")
            assert not theatre.show.paused
            live_region = tab.locator("#announcer")
            assert await live_region.get_attribute("aria-live") == "polite"
            await tab.evaluate("document.activeElement.blur()")
            await tab.keyboard.press("Space")
            await so(tab, "document.getElementById('announcer').textContent == 'Paused'")
            await tab.keyboard.press("Shift+Slash")
            assert await tab.is_visible("#help")
            await tab.keyboard.press("Escape")
            assert not await tab.is_visible("#help")

    run(body)


def test_text_stands_out_from_its_ground(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url, reduced_motion="reduce") as tab:
            await playing(tab)
            for selector in (
                "#state-text",
                "#name",
                "#role-text",
                "#pause",
                '#keys [data-key="left"] span',
                ".field label",
            ):
                shade = await shade_of(tab, selector)
                assert contrast(shade[:3], (10, 11, 14)) > 4.5, selector
            assert not await tab.is_visible("#glow"), (
                "no moving light for people who asked for less motion"
            )
            await tab.click("#show-hud")
            panel = await shade_of(tab, "#hud", "backgroundColor")
            over_white = [panel[3] * part + (1 - panel[3]) * 255 for part in panel[:3]]
            for selector in ("#hud dt", "#hud dd", "#hud th", "#hud caption"):
                shade = await shade_of(tab, selector)
                assert contrast(shade[:3], over_white) > 4.5, f"{selector} before a white sky"

    async def shade_of(tab, selector, which="color"):
        return await tab.evaluate(
            f"s => getComputedStyle(document.querySelector(s)).{which}.match(/[\\d.]+/g).map(Number)",
            selector,
        )

    def contrast(a, b):
        light = sorted(
            sum(w * channel(c) for w, c in zip((0.2126, 0.7152, 0.0722), colour))
            for colour in (a, b)
        )
        return (light[1] + 0.05) / (light[0] + 0.05)

    def channel(value):
        part = value / 255
        return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4

    run(body)


@pytest.mark.parametrize("phone", [True, False])
def test_the_help_begins_with_what_there_is_to_steer_with(run, phone):
    async def body(theatre, browser):
        size = (360, 740) if phone else (1280, 800)
        async with page(browser, theatre.url, *size, has_touch=phone, is_mobile=phone) as tab:
            hint = "left or right side" if phone else "Steer with W"
            loading = "document.getElementById('loading').innerText.replace(/\\s+/g, ' ')"
            await tab.wait_for_selector("#theatre[data-phase=loading]")
            assert hint in await tab.evaluate(loading)
            await tab.click("#show-help")
            fingers, keys = await box_of(tab, "#help-touch"), await box_of(tab, "#help-keys")
            assert (fingers["y"] < keys["y"]) is phone
            assert fingers["y"] + fingers["height"] < size[1] or not phone, "at once in sight"

    run(body, "--startup", "0", "--delay", "4", wait=False)


def test_full_screen_and_back(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.press("KeyF")
            await so(tab, "document.fullscreenElement?.id == 'theatre'")
            await tab.keyboard.press("KeyH")
            hud, bar = await box_of(tab, "#hud"), await box_of(tab, "#show-help")
            assert hud["y"] >= bar["y"] + bar["height"], "the figures leave the buttons free"
            await tab.keyboard.press("Shift+Slash")
            assert await tab.is_visible("#help")
            await tab.keyboard.press("Shift+Slash")
            assert not await tab.is_visible("#help")
            await tab.keyboard.press("KeyF")
            await so(tab, "!document.fullscreenElement")

    run(body)


def test_a_name_on_the_local_network_works_over_plain_http(desk):
    async def whole(_):
        rules = "--host-resolver-rules=MAP world.test 127.0.0.1"
        async with (
            live(host="0.0.0.0", names=["world.test"]) as theatre,
            chromium(rules) as browser,
            page(browser, theatre.url.replace("127.0.0.1", "world.test")) as tab,
        ):
            await playing(tab)
            assert await tab.evaluate("isSecureContext") is False
            await tab.click("#seed")
            await tab.wait_for_selector("#toasts p")
            assert "copied" in await text(tab, "#toasts")

    desk(whole)


def test_a_given_name_works_behind_a_proxy_that_speaks_tls(desk, tmp_path):
    pair = certificate(tmp_path, "drive.example.org")

    async def whole(_):
        async with (
            live(names=["drive.example.org"]) as theatre,
            tls_proxy(theatre.port, pair) as port,
            chromium(
                "--host-resolver-rules=MAP *.example.org 127.0.0.1", "--ignore-certificate-errors"
            ) as browser,
        ):
            address = f"https://drive.example.org:{port}/"
            async with page(browser, f"{address}?token={TOKEN}") as tab:
                assert tab.url == address
                await playing(tab)
                await tab.keyboard.down("KeyA")
                await until(lambda: theatre.show.held == "DL")
            async with page(browser, address.replace("drive", "other")) as tab:
                assert "not served here" in await tab.inner_text("body")

    desk(whole)


def test_a_page_next_to_a_flooding_program_keeps_its_pictures(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            async with socket(theatre.port) as link:
                for seq in range(2000):
                    await link.say("input", seq=seq, label="DL")
                first = await tab.evaluate(PIXELS)

                async def moved_on():
                    return await tab.evaluate(PIXELS) != first

                await eventually(moved_on)

    run(body)

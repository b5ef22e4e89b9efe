"""What the page says, offers and keeps, in a real Chromium: prompts, slow machines, pauses,
take-over, replay links and files, recordings, settings."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.video import encode_jpeg
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
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]
SPOKEN = """() => { window.spoken = []; const place = document.getElementById('announcer');
  new MutationObserver(() => window.spoken.push(place.textContent)).observe(place, {childList: true}); }"""
LIT = "[...document.querySelectorAll('#keys .lit')].map(key => key.dataset.key).join(' ')"
SLOW = """() => { const place = document.getElementById('banner');
  Object.assign(place, {className: 'calm', hidden: false, textContent: 'too slow: '.repeat(20)});
  return document.getElementById('offer').getBoundingClientRect().toJSON(); }"""


async def heard(tab, words):
    """Wait until the live region said something."""
    await so(tab, f"window.spoken.some(line => line.includes({json.dumps(words)}))", 10)


def test_a_prompt_is_said_to_be_followed_once_it_is(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(SPOKEN)
            await tab.fill("#prompt", "a road at night")
            await tab.keyboard.press("Enter")
            await until(lambda: theatre.show.prompt == "a road at night")
            await heard(tab, "The world follows the new prompt.")
            assert await text(tab, "#prompt-state") == ""

    run(body)


def test_of_a_prompt_that_is_half_known_the_page_does_not_promise_the_whole(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(SPOKEN)
            theatre.show.pause()  # so that it is still to come
            await tab.fill("#prompt", "a dragon at night")
            await tab.keyboard.press("Enter")
            await so(tab, "document.getElementById('prompt-state').textContent")
            theatre.show._audience.warn("not known here: dragon", about="prompt")
            await heard(tab, "not known here")
            theatre.show.resume()
            await heard(tab, "The world follows what it knows of the prompt.")
            assert not await tab.evaluate("window.spoken.some(line => line.includes('new prompt'))")

    run(body)


def test_a_prompt_that_failed_is_not_waited_for(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            place = {"version": 7, "text": "a sea", "message": ""}
            theatre.show._audience.tell("prompt", **place, state="pending")
            await so(tab, "document.getElementById('prompt-state').textContent == 'pending'")
            theatre.show._audience.tell("prompt", **place, state="failed")
            await so(tab, "document.getElementById('toasts').textContent.includes('not be used')")
            await asyncio.sleep(1.5)  # the figures of a second come, and all is drawn anew
            assert await text(tab, "#prompt-state") == ""

    run(body)


def test_a_prompt_that_is_too_long_is_cut_with_a_word(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.fill("#prompt", "x" * 5000)
            assert len(await tab.input_value("#prompt")) == 4000
            await so(tab, "document.getElementById('toasts').textContent.includes('cut off')")
            theatre.show._audience.warn("only 40 words are read", about="prompt")
            await so(tab, "document.getElementById('toasts').textContent.includes('40 words')")

    run(body)


def test_a_machine_that_is_too_slow_is_named_with_what_helps(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await so(
                tab, "document.getElementById('banner').textContent.includes('of 16 frames')", 30
            )
            assert "slow motion" in await text(tab, "#banner")
            assert "slow motion" not in await text(tab, "#toasts"), "said once"
            box = await box_of(tab, "#banner")
            at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
            under = "([x, y]) => Boolean(document.elementFromPoint(x, y).closest('#zones'))"
            assert await tab.evaluate(under, at), "a finger steers through it"
            assert "help" in await text(tab, "#banner"), "what to do"
            await tab.keyboard.press("Space")
            await so(tab, "document.getElementById('banner').hidden")

    run(body, "--delay", "0.5")


def test_who_comes_for_the_first_time_is_told_what_steers(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await so(tab, "document.getElementById('toasts').textContent.includes('W A S D')")
            await tab.reload()
            await playing(tab)
            await asyncio.sleep(0.5)
            assert await text(tab, "#toasts") == ""

    run(body)


@pytest.mark.parametrize("phone", [True, False])
def test_a_note_never_lies_on_an_offer_nor_an_offer_on_a_phones_car(run, phone):
    async def body(theatre, browser):
        size = (360, 740) if phone else (1280, 740)
        async with page(browser, theatre.url, *size, has_touch=phone, is_mobile=phone) as tab:
            await playing(tab)
            await until(lambda: theatre.show.latent > 2)
            await tab.evaluate("document.getElementById('reset').click()")
            await tab.wait_for_selector("#offer:not([hidden])")
            long = "a line of many words that takes several rows on a phone; " * 3
            theatre.show._audience.tell("notice", level="warning", message=long)
            await so(tab, "document.getElementById('toasts').textContent.includes('several')")
            await asyncio.sleep(0.5)  # they rise
            note, offer = await box_of(tab, "#toasts"), await box_of(tab, "#offer")
            assert offer["y"] + offer["height"] <= note["y"], (note, offer)
            assert ("Z" in await tab.inner_text("#offer-take")) is not phone, "a key to press"
            if phone:
                offer = await tab.evaluate(SLOW)  # a calm banner comes while it is there
                picture = await box_of(tab, "#picture")
                middle = picture["y"] + picture["height"] / 2
                assert offer["y"] + offer["height"] <= middle, "the car is seen"

    run(body)


def test_a_recordings_clock_stands_while_paused(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.press("KeyV")
            await so(tab, "document.getElementById('record-text').textContent == '0:01'")
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await asyncio.sleep(2.5)
            assert await text(tab, "#record-text") in ("0:01", "0:02")
            await tab.keyboard.press("Space")
            await so(tab, "document.getElementById('record-text').textContent == '0:03'")
            frames = theatre.show.recordings.running.frames
            assert 30 < frames < 80, "as many as the clock says"

    run(body, recordings=tmp_path)


def test_a_link_pasted_into_an_open_page_is_offered_and_kept_until_it_is_used(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as first, page(browser, theatre.url) as tab:
            await playing(first)
            await playing(tab)
            await tab.evaluate("() => { location.hash = 'seed=9&prompt=a+road&controls=DL*8' }")
            await tab.wait_for_selector("#ask[open]")
            assert "0:02 minutes from seed 9" in await text(tab, "#ask-text")
            await tab.click("#ask button[value=no]")
            assert "seed=9" in tab.url
            await tab.reload()
            await tab.wait_for_selector("#ask[open]")
            assert await text(tab, "#ask-yes") == "Take the wheel and replay"
            await tab.click("#ask-yes")
            await until(lambda: theatre.show.seed == 9)
            await so(tab, "document.getElementById('role-text').textContent.includes('you drive')")
            assert "#" not in tab.url

    run(body)


def test_a_replay_says_that_it_is_one_shows_its_keys_and_its_end(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url + "#seed=9&prompt=a+road&controls=DL*16,B*12") as tab:
            await tab.wait_for_selector("#ask[open]")
            await tab.click("#ask-yes")
            await so(
                tab,
                "/^Replay, 0:0[456] to go$/.test(document.getElementById('state-text').textContent)",
            )
            await so(tab, f"{LIT} == 'straight left'")
            await tab.keyboard.press("KeyD")
            await so(
                tab, "document.getElementById('toasts').textContent.includes('This is a replay')"
            )
            await so(tab, f"{LIT} == 'reverse'")
            await so(
                tab, "document.getElementById('toasts').textContent.includes('is over; you drive')"
            )
            await so(
                tab, f"document.getElementById('state-text').textContent == 'Live' && {LIT} == ''"
            )
            assert theatre.show.take().labels[:28] == ("DL",) * 16 + ("B",) * 12
            await tab.evaluate("() => { location.hash = 'seed=9&prompt=a+road&controls=BR*40' }")
            await tab.wait_for_selector("#ask[open]")
            await tab.click("#ask-yes")
            await so(tab, f"{LIT} == 'reverse right'")
            await tab.fill("#prompt", "a tunnel")
            await tab.keyboard.press("Enter")
            await so(
                tab, "document.getElementById('toasts').textContent.includes('yours is taken')"
            )
            await tab.evaluate("() => document.getElementById('toasts').replaceChildren()")
            await tab.keyboard.press("KeyR")
            await so(
                tab, f"document.getElementById('state-text').textContent == 'Live' && {LIT} == ''"
            )
            assert "over" not in await text(tab, "#toasts"), "it was left"

    run(body)


def test_a_drive_goes_to_somebody_else_as_a_file(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await turn_left(theatre, tab)
            await tab.click("#show-drawer")
            async with tab.expect_download() as download:
                await tab.click("#save-drive")
            file = tmp_path / (await download.value).suggested_filename
            await (await download.value).save_as(file)
            drive = json.loads(file.read_text())
            assert drive["seed"] == 42 and "DL" in drive["parts"][0]["controls"]
            theatre.show.reset(5)
            await tab.set_input_files("#open-drive", file)
            await tab.wait_for_selector("#ask[open]")
            await tab.click("#ask-yes")
            await until(lambda: theatre.show.seed == 42)
            await until(lambda: "DL" in theatre.show.take().labels)
            (tmp_path / "other.json").write_text('{"type": "replay", "seed": "x"}')
            await tab.set_input_files("#open-drive", tmp_path / "other.json")
            await so(tab, "document.getElementById('toasts').textContent.includes('no drive')")

    run(body)


def test_after_a_reset_the_drive_that_was_can_be_driven_again(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await turn_left(theatre, tab)
            await tab.keyboard.press("KeyN")
            await until(lambda: theatre.show.seed != 42)
            await tab.wait_for_selector("#offer:not([hidden])")
            await tab.keyboard.press("KeyZ")
            await until(lambda: theatre.show.seed == 42)
            await until(lambda: "DL" in theatre.show.take().labels)
            assert not await tab.is_visible("#offer")

    run(body)


def test_who_loses_the_wheel_is_told_and_can_take_it_back(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as first, page(browser, theatre.url) as second:
            await playing(first)
            await playing(second)
            await first.evaluate(SPOKEN)
            await second.click("#take")
            await first.wait_for_selector("#offer:not([hidden])")
            await heard(first, "Somebody else took the wheel")
            await first.click("#offer-take")
            await so(
                first, "document.getElementById('role-text').textContent.includes('you drive')"
            )

    run(body)


def test_a_recording_that_fails_is_said_once(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(SPOKEN)
            await tab.keyboard.press("KeyV")
            await so(tab, "document.getElementById('record-text').textContent == '0:01'")
            theatre.show.recordings.running._writer._process.kill()
            await so(tab, "document.getElementById('record-text').textContent == 'Record'")
            notes = "[...document.querySelectorAll('#toasts p')].map((note) => note.textContent)"
            await heard(tab, "recording ended")
            assert len([line for line in await tab.evaluate(notes) if ".mp4" in line]) == 1

    run(body, recordings=tmp_path)


def test_recordings_lie_in_a_drawer_that_leaves_the_picture_alone(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            before = await box_of(tab, "#picture")
            for _ in range(2):
                await tab.click("#record")
                await so(tab, "document.getElementById('record-text').textContent == '0:01'")
                await tab.click("#record")
                await so(tab, "document.getElementById('record-text').textContent == 'Record'")
                assert not await tab.is_visible("#drawer"), "it comes when it is asked for"
            assert "it lies under “Drives”" in await text(tab, "#toasts")
            await tab.click("#show-drawer")
            await so(tab, "document.querySelectorAll('#files li').length == 4")
            assert await box_of(tab, "#picture") == before
            tab.on("dialog", lambda d: asyncio.ensure_future(d.accept("My drive")))
            old = sorted(theatre.show.recordings.files)[1]
            await tab.click(f"#files li:has(a:text('{old}')) button:text('Rename')")
            await so(tab, "document.getElementById('files').textContent.includes('My drive.mp4')")
            assert (tmp_path / "My drive.mp4").is_file() and (tmp_path / "My drive.jsonl").is_file()
            async with tab.expect_download() as download:
                await tab.click("#files a:text('My drive.mp4')")
            assert (await (await download.value).path()).stat().st_size > 300
            await tab.click("#files li:has(a:text('My drive.mp4')) button:text('Delete')")
            await so(tab, "document.querySelectorAll('#files li').length == 2")
            assert not (tmp_path / "My drive.mp4").exists() and len(list(tmp_path.iterdir())) == 2
            await tab.keyboard.press("Escape")
            assert not await tab.is_visible("#drawer")

    run(body, recordings=tmp_path)


def test_settings_are_kept_in_this_browser(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.click("#show-settings")
            await tab.select_option("#set-scaling", "smooth")
            await tab.select_option("#set-theme", "light")
            await tab.select_option("#set-controls", "none")
            await tab.keyboard.press("Escape")
            await tab.reload()
            await playing(tab)
            style = "getComputedStyle(document.getElementById('picture')).imageRendering"
            assert await tab.evaluate(style) == "auto"
            assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") != (
                "rgb(10, 11, 14)"
            )
            assert not await tab.is_visible("#dock")
            await tab.keyboard.down("KeyA")
            await until(lambda: theatre.show.held == "DL")

    run(body)


def test_a_phone_on_its_side_shows_the_whole_picture_with_the_keys_over_it(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url, 740, 360, has_touch=True, is_mobile=True) as tab:
            await playing(tab)
            picture = await box_of(tab, "#picture")
            assert picture["height"] >= 340 and picture["y"] + picture["height"] <= 361
            for button in await tab.locator("#keys button").all():
                box = await button.bounding_box()
                assert (
                    box is not None
                    and box["y"] + box["height"] <= 360
                    and box["x"] + box["width"] <= 740
                )
            await tab.locator("#prompt").scroll_into_view_if_needed()
            assert await tab.is_visible("#prompt")
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 740

    run(body)


def test_without_javascript_it_says_so(run):
    async def body(theatre, browser):
        context = await browser.new_context(java_script_enabled=False)
        try:
            tab = await context.new_page()
            await tab.goto(theatre.url)
            assert "needs JavaScript" in await tab.inner_text("#loading")
        finally:
            await context.close()

    run(body)


def test_the_end_is_told_in_plain_words(run, tmp_path):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(PIXELS)
            await tab.click("#record")
            await so(tab, "document.getElementById('record-text').textContent == '0:01'")
            await tab.click("#record")
            await tab.wait_for_selector("#files li", state="attached")
            await tab.click("#show-drawer")
            theatre.show.stop("stopped by SIGTERM")
            await so(tab, "!document.getElementById('banner').hidden")
            words = await text(tab, "#banner")
            assert "stopped on its computer" in words and ".mp4" in words and "SIG" not in words
            assert not await tab.is_visible("#drawer"), "its links lead nowhere"

    run(body, recordings=tmp_path)


def test_loading_is_told_in_plain_words(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await tab.wait_for_selector("#theatre[data-phase=loading]")
            message = "127.0.0.1:6379, token in /tmp/x; reserving 1 GPU"
            report = {"stage": "places", "percent": 30, "message": message, "seconds": 1.0}
            theatre.show._audience.tell("status", **report)
            await so(tab, "document.getElementById('loading-now').textContent.includes('room')")
            assert "6379" not in await text(tab, "#loading")

    run(body, "--startup", "0", "--delay", "6", wait=False)


def test_the_prompt_waits_in_words_while_paused(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await tab.fill("#prompt", "a road in snow")
            await tab.keyboard.press("Enter")
            await eventually(lambda: waits(tab), 5)

    async def waits(tab):
        return "waits until you go on" in await text(tab, "#prompt-state")

    run(body)


def test_presets_are_pictures_where_the_world_brings_them(run):
    async def body(theatre, browser):
        info = theatre.show.info
        pictures = tuple(encode_jpeg(np.full((96, 144, 3), 80 * i, np.uint8), 80) for i in range(3))
        theatre.show.source.info = replace(info, pictures=pictures)
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            assert not await tab.is_visible("#presets")
            await tab.click("#show-worlds")
            loaded = "[...document.querySelectorAll('#world-list img')].every(i => i.naturalWidth == 144)"
            await so(tab, loaded)
            await tab.click("#world-list button:nth-child(3)")
            await until(lambda: theatre.show.prompt == info.presets[2])
            assert not await tab.is_visible("#worlds")

    run(body)

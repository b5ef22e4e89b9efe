"""The timeline of the page in a real Chromium: look back, go on from there, save, open, branch, undo;
over a world that dreams in this process."""

import asyncio

import numpy as np
import pytest

from tests.browser import PIXELS, box_of, eventually, needs_chromium, page, playing, so, text
from tests.dream import DreamSource, again, dreamed
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def dreams(tmp_path_factory):
    """Makes sources of chunks, all on one set of weights."""
    parts = dreamed(tmp_path_factory.mktemp("weights"))

    async def make():
        return DreamSource(parts)

    return make


async def at_latent(theatre, tab, latent):
    """Play until the page has shown this latent and knows what is kept."""
    await until(lambda: theatre.show.latent >= latent)
    await so(tab, "!document.getElementById('past').disabled")


async def value(tab):
    return int(await tab.input_value("#past"))


def test_the_past_is_looked_at_by_keys_and_gone_on_from(run, dreams):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 12)
            await tab.keyboard.press("KeyB")
            for _ in range(5):
                await tab.keyboard.press("ArrowLeft")
            await until(lambda: show.paused)
            looked = await tab.evaluate(PIXELS)
            latent = await value(tab)
            assert (await text(tab, "#past-at")).endswith("seconds ago")
            assert await tab.get_attribute("#past", "aria-valuetext") == await text(tab, "#past-at")
            await tab.click("#save-moment")
            await tab.keyboard.press("Escape")  # a click on a button took no key from the timeline
            await until(lambda: not show.paused)
            assert await text(tab, "#past-at") == "now" and not await tab.is_visible("#past-acts")
            assert looked != await tab.evaluate(PIXELS) and show.epoch == 1
            await tab.focus("#past")
            while await value(tab) > latent:
                await tab.keyboard.press("ArrowLeft")
            assert await tab.evaluate(PIXELS) == looked, "what was seen of that moment"
            await tab.keyboard.press("Enter")
            await until(lambda: show.epoch == 2 and not show.paused)
            await so(tab, f"Number(document.getElementById('past').value) >= {latent}")
            assert latent <= show.latent < latent + 8
            assert not await tab.is_visible("#past-acts")
            assert (await text(tab, "#offer")).startswith("The world went back.")
            await tab.keyboard.down("KeyA")
            await until(lambda: "DL" in show.take().labels[latent:])

    run(body, source=dreams)


def test_who_watches_looks_and_leaves_the_world_alone(run, dreams):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as first, page(browser, theatre.url) as tab:
            await playing(first)
            await playing(tab)
            await at_latent(theatre, tab, 8)
            await tab.focus("#past")
            await tab.keyboard.press("ArrowLeft")
            await tab.keyboard.press("ArrowLeft")
            assert await tab.is_visible("#past-acts")
            assert await tab.is_disabled("#go-from") and await tab.is_disabled("#save-moment")
            before = await tab.evaluate(PIXELS)
            await asyncio.sleep(0.5)
            assert await tab.evaluate(PIXELS) == before and not theatre.show.paused
            await tab.click("#to-now")
            await eventually(lambda: differs(tab, before))

    run(body, source=dreams)


def test_a_moment_shows_its_prompt_and_offers_one_way_on_and_one_way_back(run, dreams):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 6)
            before = show.prompt
            await tab.fill("#prompt", show.info.presets[1])
            await tab.keyboard.press("Enter")
            await until(lambda: show.prompt != before)
            since = show.latent
            await at_latent(theatre, tab, since + 3)
            await tab.fill("#prompt", "half a sentence")
            await tab.focus("#past")
            while await value(tab) >= since - 2:
                await tab.keyboard.press("ArrowLeft")
            assert await tab.input_value("#prompt") == before
            assert "as it was then" in await text(tab, "#prompt-label")
            assert await tab.is_disabled("#prompt-send"), "those are no words for now"
            named = [await button.inner_text() for button in await tab.locator("button").all()]
            assert "Drive on from here" in named and "Go on" not in named
            assert (await text(tab, "#pause"), await text(tab, "#to-now")) == (
                "To now",
                "Back to now",
            )
            epoch = show.epoch
            await tab.click("#pause")
            await until(lambda: not show.paused)
            assert show.epoch == epoch and await text(tab, "#past-at") == "now"
            assert await tab.input_value("#prompt") == "half a sentence"
            assert await text(tab, "#prompt-label") == "The world in words"
            assert await tab.is_enabled("#prompt-send")

    run(body, source=dreams)


@pytest.mark.parametrize("size", [(360, 740), (1280, 800)])
def test_nothing_jumps_when_the_first_picture_comes(run, dreams, size):
    async def slow():
        source = await dreams()
        start = source.start

        async def later(*arguments):
            await asyncio.sleep(2)
            await start(*arguments)

        source.start = later
        return source

    async def body(theatre, browser):
        async with page(browser, theatre.url, *size) as tab:
            await tab.wait_for_selector("#theatre[data-phase=loading]")
            places = [await box_of(tab, f"#{name}") for name in ("timeline", "keys", "prompt-form")]
            await playing(tab)
            await at_latent(theatre, tab, 4)
            for name, place in zip(("timeline", "keys", "prompt-form"), places):
                assert await box_of(tab, f"#{name}") == place, name
            assert await tab.evaluate("document.documentElement.scrollHeight") <= size[1]

    run(body, source=slow, wait=False)


async def differs(tab, before):
    return await tab.evaluate(PIXELS) != before


def test_a_moment_is_saved_and_a_file_is_opened(run, dreams, tmp_path):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 10)
            await tab.focus("#past")
            for _ in range(3):
                await tab.keyboard.press("ArrowLeft")
            latent = await value(tab)
            async with tab.expect_download() as coming:
                await tab.click("#save-moment")
            download = await coming.value
            path = tmp_path / download.suggested_filename
            await download.save_as(path)
            assert path.suffix == ".world" and path.name in show.recordings.files
            await tab.click("#to-now")
            await tab.click("#new-seed")
            await until(lambda: show.seed != 42 and show.latent >= 6)
            log = tmp_path / "drive.jsonl"
            log.write_text("{}\n{}\n")
            await tab.set_input_files("#open-drive", log)
            await eventually(lambda: says(tab, "drive.jsonl"))  # its name as it is
            await eventually(lambda: says(tab, "--replay"))
            await tab.focus("#past")
            await tab.keyboard.press("ArrowLeft")
            await until(lambda: show.paused)
            lost = show.seed, show.latent
            await tab.set_input_files("#open-drive", path)
            await until(lambda: show.seed == 42 and show.latent >= latent + 2)  # it goes on
            await so(tab, "document.getElementById('seed-value').textContent === '42'")
            await playing(tab)
            await eventually(lambda: shows(tab, show))
            assert f"The world goes on from {path.name}." in await text(tab, "#offer")
            assert "goes on" not in await text(tab, "#toasts"), "said once"
            await tab.keyboard.press("KeyZ")
            await until(lambda: show.seed == lost[0] and show.latent >= lost[1])
            bad = tmp_path / "bad.world"
            bad.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            epoch = show.epoch
            await tab.set_input_files("#open-drive", bad)
            await eventually(lambda: says(tab, "This file"))
            assert show.epoch == epoch

    run(body, source=dreams, recordings=tmp_path / "kept")


async def shows(tab, show):
    """The page has the newest picture (JPEG), nearly."""
    got = np.array(await tab.evaluate(PIXELS), np.uint8).reshape(*show.newest.image.shape[:2], 4)
    return np.abs(got[..., :3].astype(int) - show.newest.image).mean() < 12


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize("button", ["#reset", "#new-seed"])
def test_a_world_that_begins_again_is_seen_and_goes_on(run, dreams, looking, button):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 6)
            await tab.keyboard.press("KeyB" if looking else "Space")
            if looking:
                await tab.keyboard.press("ArrowLeft")
            await until(lambda: show.paused)
            before = show.seed, show.prompt
            if not looking:
                await tab.fill("#prompt", show.info.presets[1])
                await tab.keyboard.press("Enter")
                await so(
                    tab, "document.getElementById('prompt-state').textContent.includes('waits')"
                )
            await tab.click(button)
            await until(lambda: show.epoch == 2 and show.latent >= 2)
            await playing(tab)
            assert await text(tab, "#past-at") == "now" and await text(tab, "#pause") == "Pause"
            await eventually(lambda: shows(tab, show))
            assert (show.seed == before[0]) is (button == "#reset")
            assert show.prompt == (before[1] if looking else show.info.presets[1])
            assert await text(tab, "#prompt-state") == "", "nothing is waited for"
            assert await tab.input_value("#prompt") == show.prompt

    run(body, source=dreams)


def test_a_way_back_from_a_pause_goes_on(run, dreams):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 8)
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await tab.focus("#past")
            await tab.keyboard.press("ArrowLeft")
            await tab.keyboard.press("KeyA")
            await eventually(lambda: says(tab, "You look back: Enter drives on from here"))
            await tab.keyboard.press("Space")
            await so(tab, "document.getElementById('past-at').textContent === 'now'")
            assert show.paused, "as it was before somebody looked"
            await tab.focus("#past")
            await tab.keyboard.press("ArrowLeft")
            await tab.click("#stage")  # the keys are the timeline's wherever the mouse was
            await tab.keyboard.press("Enter")
            await until(lambda: show.epoch == 2 and not show.paused)
            await tab.keyboard.press("KeyB")
            await tab.keyboard.down("KeyA")  # nobody looks back: it drives
            await until(lambda: show.held == "DL")
            await tab.keyboard.up("KeyA")
            await so(tab, "document.activeElement === document.body")

    run(body, source=dreams)


async def says(tab, words):
    return words in await text(tab, "#toasts")


def test_a_branch_opens_in_a_new_tab_and_goes_on_from_there(run, dreams):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 8)
            await tab.focus("#past")
            await tab.keyboard.press("ArrowLeft")
            latent = await value(tab)
            async with tab.context.expect_page() as coming:
                await tab.click("#branch")
            second = await coming.value
            await playing(second)
            branch = next(world for world in theatre.worlds if not world.own).show
            assert theatre.show.paused
            held = theatre.show.latent
            await until(lambda: branch.latent >= latent + 2)
            frame, take = branch.newest, branch.take()
            begun = frame.index + 1 - branch.figures.frames
            assert begun == latent * branch.info.frames_per_latent, "where one looked"
            assert theatre.show.latent == held > latent
            assert take.labels[:latent] == theatre.show.take().labels[:latent]
            alone = again(branch.source.parts, take)
            assert np.array_equal(frame.image, alone[frame.index]), "what an undisturbed drive has"

    run(body, source=dreams, many={})


def test_a_lost_drive_comes_back_where_it_was(run, dreams):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 9)
            await tab.keyboard.press("KeyR")
            await until(lambda: show.epoch == 2 and 0 <= show.latent < 9)
            await so(tab, "!document.getElementById('offer').hidden")
            await tab.keyboard.press("KeyZ")
            await eventually(lambda: says(tab, "Back in the lost drive."))
            await until(lambda: show.epoch == 3 and show.latent >= 9)
            assert len(show.take().labels) < 30

    run(body, source=dreams)


@pytest.mark.parametrize("size", [(360, 740), (1280, 800), (2560, 1440)])
def test_the_timeline_lies_under_the_picture_at_every_size(run, dreams, size):
    async def body(theatre, browser):
        width, height = size
        async with page(browser, theatre.url, width=width, height=height) as tab:
            await playing(tab)
            await at_latent(theatre, tab, 6)
            picture = await box_of(tab, "#picture")
            line = await box_of(tab, "#past")
            assert line["y"] >= picture["y"] + picture["height"] - 1 and line["width"] > 200
            at = line["y"] + line["height"] / 2
            await tab.mouse.move(line["x"] + line["width"] - 4, at)
            await tab.mouse.down()
            await tab.mouse.move(line["x"] + line["width"] / 2, at, steps=4)
            await tab.mouse.up()
            await until(lambda: theatre.show.paused)
            acts = await box_of(tab, "#past-acts")
            assert acts["x"] >= 0 and acts["x"] + acts["width"] <= width
            assert acts["y"] + acts["height"] <= line["y"] + 1
            assert await box_of(tab, "#picture") == picture, "nothing jumps"
            await tab.click("#go-from")
            await until(lambda: theatre.show.epoch == 2)

    run(body, source=dreams)

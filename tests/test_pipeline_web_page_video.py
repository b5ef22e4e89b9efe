"""Large pictures as H.264 in a real Chromium: what is painted, who joins, thin links, decoders that
fail."""

import asyncio

import numpy as np
import pytest

from tests.browser import PIXELS, eventually, needs_chromium, page, playing, so
from tests.slow_link import slow_link

pytestmark = [needs_chromium, pytest.mark.timeout(180)]
LARGE = ("--size", "720x480")


async def picture(tab):
    """What is painted: uint8 [H, W, 3]."""
    pixels = np.array(await tab.evaluate(PIXELS), np.uint8)
    return pixels.reshape(480, 720, 4)[..., :3]


async def comes_as(tab, kind):
    """Open the figures and wait until the pictures are of a kind."""
    if not await tab.is_visible("#hud"):
        await tab.keyboard.press("KeyH")
    await so(tab, f"document.getElementById('hud').textContent.includes('{kind}')", 10)


def test_large_pictures_come_as_video_and_show_the_frames(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab, page(browser, theatre.url) as late:
            await playing(tab)
            await comes_as(tab, "H.264")
            await tab.keyboard.down("KeyA")
            await asyncio.sleep(1)
            await tab.keyboard.up("KeyA")
            theatre.show.pause()
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            newest = theatre.show.subscribe(viewer=False)
            shown = newest.frame().image.astype(np.float32)
            newest.close()

            async def alike():
                error = np.mean((await picture(tab) - shown) ** 2)
                return 10 * np.log10(255**2 / error) > 31  # JPEG 75 of this has 32 dB

            await eventually(alike, 15)
            theatre.show.resume()
            await playing(late)
            await comes_as(late, "H.264")

    run(body, *LARGE)


def test_small_pictures_stay_jpeg(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await comes_as(tab, "JPEG")

    run(body)


def test_a_decoder_that_fails_leaves_jpeg(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await comes_as(tab, "H.264")
            await tab.evaluate(
                "() => { VideoDecoder.prototype.decode = () => { throw new Error('no'); }; }"
            )
            await comes_as(tab, "JPEG")
            before = await picture(tab)
            await asyncio.sleep(0.5)
            assert (await picture(tab) != before).any(), "it goes on"

    run(body, *LARGE)


def test_a_thin_link_carries_video_in_real_time(run):
    """1 Mbit/s, where JPEGs of this size would come once or twice a second."""

    async def body(theatre, browser):
        async with (
            slow_link(theatre.port, bits=1e6, round_trip=0.08) as link,
            page(browser, theatre.url.replace(str(theatre.port), str(link.port))) as tab,
        ):
            await playing(tab)
            await comes_as(tab, "H.264")
            await tab.keyboard.down("KeyA")
            rate = "Number(document.querySelector('#hud-rates div:nth-child(2) dd').textContent.split(' ')[0])"
            await so(tab, f"{rate} > 13", 20)

    run(body, *LARGE)

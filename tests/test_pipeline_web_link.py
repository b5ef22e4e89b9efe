"""Delay as a person feels it: from a real key press to the paint of its first picture, on loopback
and on a poor link.

Bounds are generous, because the machine may be busy; docs/experiments.md has the measured figures.
"""

import asyncio
import time

import pytest

from pipeline.stage.pacing import percentile
from tests.browser import chromium, needs_chromium, page, playing
from tests.live import live
from tests.slow_link import slow_link
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]
MODEL = 0.1  # seconds that the program takes for a latent

# Follows every painted frame and every key from outside the page's own bookkeeping.
WATCH = """() => {
  window.seen = [];
  const original = WebSocket.prototype.send;
  WebSocket.prototype.send = function (text) {
    const message = JSON.parse(text);
    if (message.type === 'ack') window.seen.push({ frame: message.frame, at: performance.now() });
    if (message.type === 'photon') window.photons = [...(window.photons ?? []), message.ms];
    original.call(this, text);
  };
}"""


async def press_keys(tab, theatre, count):
    """Alternate left and right until ``count`` first pictures were painted; their delays in
    milliseconds."""
    async with asyncio.timeout(90):
        turn = 0
        while len(await tab.evaluate("window.photons ?? []")) < count:
            code = ("KeyA", "KeyD")[turn % 2]
            turn += 1
            await tab.keyboard.down(code)
            await asyncio.sleep(0.4)
            await tab.keyboard.up(code)
            await asyncio.sleep(0.37)
    return sorted(await tab.evaluate("window.photons"))


def own_delay(theatre):
    """The model's own delay at p95, in milliseconds: the wait for a step, the step, the pacing of
    its frames."""
    return theatre.show.stats()["control_to_frame_ms"]["p95"]


def test_transport_on_loopback_takes_a_moment():
    async def whole():
        async with (
            live("--delay", str(MODEL)) as theatre,
            chromium() as browser,
            page(browser, theatre.url) as tab,
        ):
            await playing(tab)
            await tab.keyboard.press("KeyH")
            await tab.evaluate(WATCH)
            await press_keys(tab, theatre, 6)
            rows = dict(
                zip(
                    await texts(tab, "#hud-split th"),
                    await texts(tab, "#hud-split tr td:nth-child(2)"),
                )
            )
            assert int(rows["transport to here"]) < 60

    async def texts(tab, selector):
        return [text.strip() for text in await tab.locator(selector).all_inner_texts()]

    asyncio.run(whole())


def test_a_poor_link_delays_a_second_at_most_and_keeps_moving():
    async def whole():
        async with (
            live("--delay", str(MODEL), "--size", "720x480") as theatre,
            slow_link(theatre.port) as link,
            chromium() as browser,
            page(browser, theatre.url.replace(str(theatre.port), str(link.port))) as tab,
        ):
            await playing(tab)
            await tab.evaluate(WATCH)
            delays = await press_keys(tab, theatre, 12)
            beyond = percentile(delays, 95) - own_delay(theatre)
            carried, since = link.carried, time.monotonic()
            painted = await tab.evaluate("window.seen.length")
            await asyncio.sleep(4)
            seconds = time.monotonic() - since
            fps = (await tab.evaluate("window.seen.length") - painted) / seconds
            quality = theatre.room.viewers[0].ladder.quality
            kilobits = 8 * (link.carried - carried) / seconds / 1000
            print(
                f"beyond the model p95 {beyond:.0f} ms, {fps:.1f} FPS, quality {quality}, {kilobits:.0f} kbit/s"
            )
            assert beyond < 1000
            assert fps > 5
            assert kilobits < 6000

    asyncio.run(whole())


def test_a_silent_server_is_noticed_within_two_seconds():
    async def whole():
        async with (
            live() as theatre,
            slow_link(theatre.port, 1e9, 0.0) as link,
            chromium() as browser,
            page(browser, theatre.url.replace(str(theatre.port), str(link.port))) as tab,
        ):
            await playing(tab)
            await tab.keyboard.down("KeyA")
            await until(lambda: theatre.show.held == "DL")
            link.frozen = True
            await tab.wait_for_selector("#theatre[data-phase=lost]", timeout=2000)
            assert await tab.locator("#keys .lit").count() == 0
            await until(lambda: theatre.show.held == "D", 5)
            link.frozen = False
            await playing(tab)
            await until(lambda: len(theatre.room.viewers) == 1)

    asyncio.run(whole())

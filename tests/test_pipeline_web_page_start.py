"""The page while a real world starts: workers over Ray, the embedded weights, and a page that was
left open before."""

import asyncio
import contextlib
import os
import re
import signal
import sys

import pytest

from tests.browser import eventually, needs_chromium, page, playing, so, text
from tests.live import TOKEN, live
from tests.places import ROOT

pytestmark = [needs_chromium, pytest.mark.timeout(400)]
PROGRESS = """() => [document.getElementById('theatre').dataset.phase, document.getElementById('loading-bar').value,
  ...document.querySelectorAll('#loading-stages li')].map((x) => x.innerText ?? x)"""


@contextlib.asynccontextmanager
async def launched(port):
    """``run`` with the embedded world on a port, from the moment its page is served."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MODEL_PATH"))
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline", "run", "--port", str(port)),
        cwd=ROOT,
        env={**plain, "MATRIX_TOKEN": TOKEN},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        while not re.search(rb"starting Ray", line := await process.stderr.readline()):
            assert line, "the launcher ended before it served its page"
        draining = asyncio.create_task(process.stderr.read())
        yield process
        await draining
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.wait()


def test_a_world_is_seen_loading_by_a_new_page_and_by_one_that_was_left_open(desk, tmp_path):
    async def whole(browser):
        async with contextlib.AsyncExitStack() as pages:
            async with live(recordings=tmp_path) as theatre:
                tab = await pages.enter_async_context(page(browser, theatre.url))
                await playing(tab)
                await tab.click("#record")
                for _ in range(8):  # controls counted far beyond those of the world that comes
                    await tab.keyboard.press("KeyA")
                await so(tab, "document.getElementById('record').ariaPressed == 'true'")
            await tab.wait_for_selector("#theatre:is([data-phase=lost], [data-phase=ended])")
            async with launched(theatre.port) as process:
                fresh = await pages.enter_async_context(page(browser, theatre.url))
                await fresh.wait_for_selector("#loading-stages li", timeout=5000)
                assert await fresh.evaluate("document.getElementById('loading-bar').value") > 0
                await tab.wait_for_selector("#theatre[data-phase=loading]", timeout=10_000)
                assert await tab.is_visible("#loading") and await text(tab, "#name") != "test road"
                assert await text(tab, "#record-text") == "Record" and not await tab.is_visible(
                    "#files"
                )
                seen = await watched(fresh)
                assert seen == sorted(seen) and len(set(seen)) >= 4, f"progress in percent: {seen}"
                await playing(tab)
                if await tab.is_visible("#take"):  # the wheel is with the page that came first
                    await tab.click("#take")
                await so(
                    tab, "document.getElementById('role-text').textContent.includes('you drive')"
                )
                await tab.keyboard.press("KeyH")
                await eventually(lambda: answered(tab), 60)
                process.send_signal(signal.SIGINT)
                await so(
                    tab,
                    "document.getElementById('banner').textContent.includes('was stopped on its computer')",
                )
                assert await tab.is_disabled("#prompt") and await tab.is_disabled("#replay")

    async def watched(tab):
        """The percentages that were shown until the world played."""
        seen, stages = [], []
        async with asyncio.timeout(150):
            while (now := await tab.evaluate(PROGRESS))[0] == "loading":
                seen.append(now[1])
                stages = now[2:]
                await asyncio.sleep(0.1)
        assert len(stages) >= 4 and all(re.search(r"\d+\.\d s$", stage) for stage in stages), stages
        return seen

    async def answered(tab):
        """Press a key until the delay of its first picture is known."""
        await tab.keyboard.down("KeyA")
        await asyncio.sleep(0.7)
        await tab.keyboard.up("KeyA")
        await asyncio.sleep(0.7)
        return all(
            cell.isdigit() for cell in await tab.locator("#hud-split tr.total td").all_inner_texts()
        )

    desk(whole)

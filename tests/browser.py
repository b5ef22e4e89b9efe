"""A real Chromium for tests of the page; without it they are skipped with the reason."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tests.until import until

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PIXELS = """() => { const c = document.getElementById('picture');
  return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data); }"""
needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed (apt-get install chromium)"
)


@contextlib.asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Any]:
    """A browser; pages come from ``page``."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def page(
    browser: Any, url: str, width: int = 1280, height: int = 800, **context: Any
) -> AsyncIterator[Page]:
    """A page of its own context. A script error or a breach of the content policy fails the
    test."""
    session = await browser.new_context(viewport={"width": width, "height": height}, **context)
    tab = await session.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on(
        "console", lambda m: errors.append(m.text) if "Content Security Policy" in m.text else None
    )
    try:
        await tab.goto(url)
        yield tab
        assert not errors, errors
    finally:
        await session.close()


async def playing(tab: Page) -> None:
    """Wait until the world is on the screen."""
    await tab.wait_for_selector("#theatre[data-phase=live]", timeout=30_000)


async def turn_left(theatre, tab: Page) -> None:
    """Hold the key until a latent of the drive follows it, then let go."""
    await tab.keyboard.down("KeyA")
    await until(lambda: "DL" in theatre.show.take().labels)
    await tab.keyboard.up("KeyA")


async def text(tab, selector):
    return (await tab.inner_text(selector)).strip()


async def eventually(condition, seconds=20.0):
    """Wait until an asynchronous question is answered with yes."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def box_of(tab, selector):
    box = await tab.locator(selector).bounding_box()
    assert box is not None, selector
    return box


async def so(tab, expression, seconds=20.0):
    """Wait until an expression holds in the page (asked from outside: its content policy forbids
    eval)."""
    await eventually(lambda: tab.evaluate(expression), seconds)

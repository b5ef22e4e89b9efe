"""What several files of browser tests share: one browser, and a playing show for every test."""

import asyncio

import pytest

from tests.browser import chromium
from tests.live import live


@pytest.fixture(scope="module")
def desk():
    """One browser for all tests of a file, and the event loop it lives in."""
    with asyncio.Runner() as runner:
        opened = chromium()
        browser = runner.run(opened.__aenter__())
        yield lambda work: runner.run(work(browser))
        runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def run(desk):
    """Run a test's body with a playing show and the browser."""

    def running(body, *road, **settings):
        async def whole(browser):
            async with live(*road, **settings) as theatre:
                await body(theatre, browser)

        desk(whole)

    return running

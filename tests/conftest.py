"""What several files of tests share: a browser, a playing show for every test, small weights, a
short temporary folder, loggers left as they were."""

import asyncio
import logging
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch

from configs.logs import PACKAGES
from models.checkpoint import Checkpoint
from models.parts import Parts
from tests.browser import chromium
from tests.live import live
from tests.tiny_checkpoint import write_checkpoint


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """It is heard by what the tests start, also where they run behind a script (&), whose shell ignores
    it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory):
    """Drives of tests are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of small random weights, in the published layout."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4")


@pytest.fixture(scope="module")
def parts(model):
    """The same, loaded."""
    return Parts(Checkpoint.open(model), torch.device("cpu"), "float32")


@pytest.fixture
def temporary(monkeypatch):
    """An empty place for temporary files, with a path short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def levels():
    """The packages' loggers have their levels back after the test."""
    before = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)

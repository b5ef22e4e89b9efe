"""A show on the air: its page, its lines in the terminal, until it ends or a signal comes."""

import asyncio
import logging
import secrets
from typing import Final

from configs.schema import RunConfig
from pipeline.console import Console
from pipeline.run_files import RunFiles
from pipeline.signals import StopSignals
from pipeline.stage.show import Show
from pipeline.web.gateway import Gateway
from pipeline.web.metrics import registry

logger = logging.getLogger(__name__)
STATS_SECONDS: Final = 10.0  # between two lines of figures


class Broadcast:
    """What ``run`` and ``play`` share. Building it binds the page's port; nothing is answered
    before ``run``."""

    def __init__(self, show: Show, config: RunConfig, files: RunFiles, console: Console) -> None:
        """Raises UserError when the port is taken."""
        self._show = show
        self._files = files
        self._console = console
        self._gateway = None if config.headless else open_gateway(show, config)

    async def run(self) -> int:
        """Play until the show ends or a signal comes; the exit code, 1 after a fault beyond
        repair or when a file could not be written."""
        try:
            code = await StopSignals(self._show.stop).run(self._air())
        except RuntimeError as error:
            logger.info("the run ended", exc_info=True)
            self._console.say("error", f"the run ended: {error}")
            code = 1
        finally:
            if self._show.figures.frames:
                self._console.stats(self._show.stats())
        for failure in self._show.tape.failures:
            self._console.say("error", failure)
        return code or int(bool(self._show.tape.failures))

    def write_summary(self, text: str) -> int:
        """Write the file of ``--summary``; the exit code."""
        try:
            self._files.write_summary(text)
        except OSError as error:
            reason = error.strerror or error
            self._console.say("error", f"summary {self._files.summary}: not written ({reason})")
            return 1
        return 0

    def name_files(self) -> None:
        """Print the paths of what was made."""
        for path in self._files.made():
            self._console.result(path)

    async def _air(self) -> None:
        telling = asyncio.create_task(self.tell())
        counting = asyncio.create_task(self.count())
        try:
            if self._gateway is not None:
                await self._gateway.start()
                self._console.say("url", f"open {self._gateway.url}", url=self._gateway.url)
            await self._show.run(self._files.open)
        finally:
            counting.cancel()
            await telling
            if self._gateway is not None:
                await self._gateway.close()

    async def tell(self) -> None:
        """Say stages and notices until the show ends."""
        subscription = self._show.subscribe(viewer=False)
        first = True
        while await subscription.wait():
            subscription.frame()
            for event in subscription.events():
                self._console.hear(event)
            if first and self._show.figures.frames:
                first = False
                self._console.say("stage", "playing: first frame shown")

    async def count(self) -> None:
        """Say the figures at regular times, for ever."""
        while True:
            await asyncio.sleep(STATS_SECONDS)
            if self._show.figures.frames and self._show.state != "ended":
                self._console.stats(self._show.stats())


def open_gateway(show: Show, config: RunConfig) -> Gateway:
    """The page of a show, its port bound but not yet served. Raises UserError."""
    return Gateway(
        show,
        host=config.host,
        port=config.port,
        names=config.allow_host,
        token=config.token or secrets.token_urlsafe(24),
        tls=(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None,
        registry=registry(show),
    )

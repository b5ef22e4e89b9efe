"""Worlds on the air: their pages, their lines in the terminal, until they end or a signal comes."""

import asyncio
import logging
import secrets
from typing import Final

from actors.tasks import Tasks
from configs.schema import RunConfig
from pipeline.console import Console
from pipeline.hosted_world import HostedWorld
from pipeline.run_files import RunFiles
from pipeline.signals import StopSignals
from pipeline.web.gateway import Gateway
from pipeline.worlds import Worlds

logger = logging.getLogger(__name__)
STATS_SECONDS: Final = 10.0  # between two lines of figures


class Broadcast:
    """What ``run`` and ``play`` share. Building it binds the page's port; nothing is answered
    before ``run``."""

    def __init__(
        self, worlds: Worlds, config: RunConfig, files: RunFiles, console: Console
    ) -> None:
        """Raises UserError when the port is taken."""
        self._worlds = worlds
        self._show = worlds.own.show
        self._files = files
        self._console = console
        self._gateway = None if config.headless else open_gateway(worlds, config)
        self._telling = Tasks()
        worlds.opened.append(self._follow)

    async def run(self) -> int:
        """Play until the show ends or a signal comes; the exit code, 1 after a fault beyond
        repair or when a file could not be written."""
        try:
            code = await StopSignals(self._worlds.stop).run(self._air())
        except RuntimeError as error:
            logger.info("the run ended", exc_info=True)
            self._console.say("error", f"the run ended: {error}")
            code = 1
        finally:
            if self._show.figures.frames:
                self._console.stats(self._show.stats())
        for failure in self._show.failures:
            self._console.say("error", failure)
        return code or int(bool(self._show.failures))

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
                if (address := self._gateway.phone_url) is not None:
                    self._console.code(address)
            await self._worlds.run(self._files.open)
        finally:
            counting.cancel()
            await telling
            if self._gateway is not None:
                await self._gateway.close()

    async def tell(self, world: HostedWorld | None = None) -> None:
        """Say stages and notices of a world (the launcher's own) until it ends."""
        world = world or self._worlds.own
        console = self._of(world)
        subscription = world.show.subscribe(viewer=False)
        first = True
        while await subscription.wait():
            subscription.frame()
            for event in subscription.events():
                console.hear(event)
            if first and world.show.figures.frames:
                first = False
                console.say("stage", "playing: first frame shown")

    async def count(self) -> None:
        """Say the figures at regular times, for ever."""
        while True:
            await asyncio.sleep(STATS_SECONDS)
            for world in self._worlds:
                if world.show.figures.frames and not world.resting:
                    self._of(world).stats(world.show.stats())

    def _follow(self, world: HostedWorld) -> None:
        """A world begins; the launcher's own is told of from before that."""
        self._telling.start(self._tell_end(world) if world.own else self._tell_whole(world))

    async def _tell_end(self, own: HostedWorld) -> None:
        await own.over.wait()
        if own.asked or (own.fault is not None and len(self._worlds)):
            why = f": {own.fault}" if own.fault is not None else ""
            self._console.say("world", f"{own.name} ended{why}; the launcher goes on")

    async def _tell_whole(self, world: HostedWorld) -> None:
        console = self._of(world)
        console.say("world", f"begins with seed {world.show.seed}: {world.show.prompt}")
        await self.tell(world)
        await world.over.wait()
        console.say("world", f"ended{f': {world.fault}' if world.fault else ''}")

    def _of(self, world: HostedWorld) -> Console:
        """Where the lines of a world go: those of the launcher's own stand by themselves."""
        return self._console if world.own else self._console.about(world.name)


def open_gateway(worlds: Worlds, config: RunConfig) -> Gateway:
    """The pages of all worlds, their port bound but not yet served. Raises UserError."""
    return Gateway(
        worlds,
        host=config.host,
        port=config.port,
        names=config.allow_host,
        token=config.token or secrets.token_urlsafe(24),
        tls=(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None,
    )

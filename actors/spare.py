"""A spare worker: a process that has started, and imported all that it will need, before the one whose
place it takes dies. That is most of what a replacement takes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import psutil

from actors.tasks import cancel

CALM_SECONDS: Final = 4.0  # after the workers have loaded: the first frames go first
START_SECONDS: Final = 120.0  # after which one that does not come up (stopped, say) is given up

logger = logging.getLogger(__name__)


class Spare:
    """At most one worker. ``spawn`` starts it, ``kill`` ends it; both block. ``turn`` is held while it
    starts, which takes a core for more than a second: one at a time. One that does not come up is
    done without."""

    def __init__(
        self, spawn: Callable[[], Any], kill: Callable[[Any], None], turn: asyncio.Lock
    ) -> None:
        self._spawn, self._kill, self._turn = spawn, kill, turn
        self._preparing: asyncio.Task[None] | None = None
        self._actor: Any = None
        self._process: psutil.Process | None = None

    def prepare(self) -> None:
        """Let one start in a while, beside everything else, unless there is one."""
        if self._preparing is None or (self._preparing.done() and not self._ready):
            self._preparing = asyncio.create_task(self._start())

    def take(self) -> Any:
        """The worker, which is nobody's spare from now on; None if none is ready."""
        if not self._ready:
            return None
        actor, self._actor, self._process = self._actor, None, None
        return actor

    async def end(self) -> None:
        """There is none any more. Idempotent."""
        await self.forget()
        await self._discard()

    async def forget(self) -> None:
        """Prepare none any more; what there is ends with its cluster."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            await cancel(preparing)

    async def _discard(self) -> None:
        actor, self._actor = self._actor, None
        process, self._process = self._process, None
        if actor is not None:
            await asyncio.to_thread(self._kill, actor)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()

    async def _start(self) -> None:
        await asyncio.sleep(CALM_SECONDS)
        await self._discard()  # one that died, or was stopped
        try:
            async with self._turn:
                self._actor = await asyncio.to_thread(self._spawn)
                async with asyncio.timeout(START_SECONDS):
                    identity = await self._actor.identity.remote()
                self._process = psutil.Process(identity.pid)
        except Exception as error:  # whatever a start can fail with: the run has all that it needs
            why = str(error) or "it did not come up in time"
            logger.warning("no spare worker, so the next repair takes longer (%s)", why)
            logger.info("why a spare worker did not come up, in full", exc_info=error)

    @property
    def _ready(self) -> bool:
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                unfit = (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
                return self._process.is_running() and self._process.status() not in unfit
        return False

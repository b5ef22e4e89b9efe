"""Whose step is next, where several worlds share one DiT group and one VAE group."""

import asyncio
import heapq
import itertools
from typing import Final

DECODES: Final = 2  # steps whose frames are not there yet: one is being decoded, one waits


class Turns:
    """Earliest deadline first, one step at a time: without it a world that asks for much would make
    the others late (Liu and Layland, 1973: all are in time as long as the work fits)."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()  # of equal deadlines the first to ask comes first
        self._steps = self._decodes = 0

    async def take(self, deadline: float) -> None:
        """Wait for a turn. It ends with `stepped` and `decoded`, or with `leave`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (deadline, next(self._number), turn))
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """A turn was not used."""
        self.stepped()
        self.decoded()

    def stepped(self) -> None:
        """The step of a turn has been made."""
        self._steps -= 1
        self._give()

    def decoded(self) -> None:
        """The frames of a turn are there."""
        self._decodes -= 1
        self._give()

    def _give(self) -> None:
        while self._waiting and not self._steps and self._decodes < DECODES:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._steps += 1
                self._decodes += 1
                turn.set_result(None)

"""What happens when a worker dies or hangs: how it is noticed, and how often a run is mended.

The repair itself is the fleet's (actors/fleet.py): every group that broke is replaced, every
world is set back to its newest commit, and the steps under way are asked for again.
"""

import asyncio
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from actors.gang import LOOK_SECONDS, STOPPED_SECONDS, Gang
from actors.last_words import last_words, pid_of
from configs.errors import UserError

STALL_FLOOR: Final = 10.0  # seconds without a sign of life that are never a hang
STALL_FACTOR: Final = 5.0  # of the usual time
# Nothing is known yet: the published model needs minutes for a step on a CPU.
FIRST_STEP_SECONDS: Final = 600.0
FAULTS: Final = 3  # this many within FAULT_SECONDS end a run
FAULT_SECONDS: Final = 60.0
DEATHS: Final = 5  # of replacements in one repair, which end it
LOADS: Final = 2  # replacements in one repair that cannot load their weights, which end it
BEAT: Final = (
    1.0  # seconds between two looks; a beat that lasts longer was time in which nobody ran
)

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Fault(Exception):
    """A group broke; ``gang`` None: the stream stands still and nobody says why."""

    def __init__(self, gang: Gang | None, reason: str) -> None:
        super().__init__(f"{gang.name}: {reason}" if gang else reason)
        self.gang = gang

    @property
    def refused(self) -> bool:
        """A worker that lives could not do what it was asked: it may be what it was asked."""
        return hasattr(self.__cause__, "cause")  # Ray's way to hand on what a call raised


class ClusterLost(Fault):
    """The cluster itself is gone, and every worker with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)


class Patience:
    """How long to wait for what usually takes about as long as the last times."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=64)

    def took(self, seconds: float) -> None:
        self._durations.append(seconds)

    @property
    def limit(self) -> float:
        """Seconds after which nothing will come any more."""
        if not self._durations:
            return FIRST_STEP_SECONDS
        return max(STALL_FLOOR, STALL_FACTOR * statistics.median(self._durations))


class Flow(Patience):
    """Of a stream: how long its steps take, and whether it moves at all."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = time.monotonic()

    def moved(self) -> None:
        """Something came of it, or it was touched."""
        self._moved = time.monotonic()

    async def watch(self, is_due: Callable[[], bool]) -> None:
        """Raise Fault when it stands still although it ``is_due``, whatever the reason."""
        ran = 0.0
        while True:
            before, moved = time.monotonic(), self._moved
            await asyncio.sleep(BEAT)
            ran += min(time.monotonic() - before, 2 * BEAT)
            if moved != self._moved or not is_due():
                ran = 0.0
            elif ran >= 2 * self.limit:
                raise Fault(None, f"the stream stood still for {ran:.0f} s")


class Faults:
    """Counts what broke. A repair is one fault, however many groups broke in it."""

    def __init__(self) -> None:
        self._begun: deque[float] = deque()
        self._deaths = self._loads = 0

    def count(self, fault: Fault) -> None:
        """A repair begins. Raises RuntimeError when there were too many lately."""
        now = time.monotonic()
        self._deaths = self._loads = 0
        self._begun.append(now)
        while self._begun[0] < now - FAULT_SECONDS:
            self._begun.popleft()
        if len(self._begun) >= FAULTS:
            raise _too_many(len(self._begun), fault)

    def again(self, fault: Fault) -> None:
        """Something broke during the repair. Raises RuntimeError when it leads nowhere."""
        self._deaths += 1
        self._loads += isinstance(fault.__cause__, UserError)
        if self._deaths >= DEATHS or self._loads >= LOADS:
            raise _too_many(1 + self._deaths, fault)


def _too_many(count: int, fault: Fault) -> RuntimeError:
    return RuntimeError(f"{count} failures within {FAULT_SECONDS:.0f} s, the last one: {fault}")


async def watched(gang: Gang, outcome: "asyncio.Future[T]", limit: float) -> T:
    """The outcome, or Fault when the gang broke or gave nothing for ``limit`` seconds.

    Only time in which this process ran counts: after a pause of everything (a closed laptop, a
    paused container) nobody is late. A stopped process is given up after STOPPED_SECONDS,
    whatever the limit.
    """
    waited = stopped = 0.0
    while not outcome.done():
        if waited >= limit or stopped >= STOPPED_SECONDS:
            raise Fault(gang, f"nothing came for {waited:.0f} s")
        before = time.monotonic()
        await asyncio.wait({outcome}, timeout=min(LOOK_SECONDS, limit - waited))
        ran = min(time.monotonic() - before, 2 * LOOK_SECONDS)
        waited, stopped = waited + ran, stopped + ran if gang.stopped else 0.0
    try:
        return outcome.result()
    except Exception as error:
        raise Fault(gang, line(error, gang.logs)) from error


def line(error: BaseException, logs: Path) -> str:
    """An error as one short line; Ray's own begin with pages about the actor. ``logs`` is where a
    worker that died may have said why."""
    logger.info("what broke, in full", exc_info=error)
    name = type(error).__name__
    if name in ("ActorDiedError", "ActorUnavailableError"):
        words = last_words(logs, pid_of(error))
        why = words or "without a word: killed, maybe by the system for want of memory"
        return "a worker process died" + ("" if words is None else f" ({why})"[:300])
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}"[:300]

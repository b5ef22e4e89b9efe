"""One world of a launcher: a show, whose it is, and whether it rests."""

import asyncio
import time
from typing import Any, Protocol, runtime_checkable

from pipeline.host import OWN, Continuation, Whose
from pipeline.stage.show import Show


@runtime_checkable
class Rests(Protocol):
    """A source that can give back what its paused world holds."""

    def rest(self) -> None:
        """Until the pace allows a step again."""
        ...


class HostedWorld:
    """One show of many. ``whose``: the id that is part of its address, and its name for people;
    ``continuation``: of a drive that goes on in it."""

    def __init__(self, show: Show, whose: Whose, continuation: Continuation | None = None) -> None:
        self.id, self.name = whose.id, whose.name
        self.show = show
        self.own = whose.id == OWN  # the launcher's
        self.continued = continuation.told if continuation else {}
        self.born = time.monotonic()
        self.resting = False
        self.asked = False  # to end, by a person
        self.fault: Exception | None = None
        self.over = asyncio.Event()
        self._watched = self.born  # when somebody watched last

    def look(self, now: float, rest: float) -> bool:
        """Put it to rest if nobody has watched it for ``rest`` seconds, and nothing else that it
        does is wanted; whether that was done now."""
        if self.resting or self.show.state != "playing" or self.show.busy:
            self._watched = now
        if now - self._watched < rest:
            return False
        self.resting = True
        self.show.pause()
        if isinstance(self.show.source, Rests):
            self.show.source.rest()
        return True

    def wake(self) -> bool:
        """Somebody comes: go on if it rests; whether it did."""
        if not self.resting:
            return False
        self.resting = False
        self.show.resume()
        return True

    def record(self) -> dict[str, Any]:
        """What the summary of a run says of it."""
        show = self.show
        figures = show.figures.summary(self.born, show.drops, {})
        del figures["peak_rss_mb"]
        fault = {"fault": str(self.fault)} if self.fault is not None else {}
        named = {"id": self.id, "name": self.name, "seed": show.seed}
        return {**named, **figures, **fault, **self.continued}

    def end(self, reason: str) -> None:
        """Ask it to end; ``over`` says when it has."""
        self.asked = True
        self.show.stop(reason)

"""Requests for a world that wait until there is room: first come, first served."""

import secrets
from dataclasses import dataclass
from typing import Final

from pipeline.beginning import Beginning

MOST_WAITING: Final = 32
GONE_SECONDS: Final = 10.0  # without a question: who asked for it has left


@dataclass
class Request:
    """One request; ``heard`` is when its client asked last."""

    beginning: Beginning
    heard: float


class Waiting:
    """The queue. A client keeps its place by asking for it; ``now`` is on the monotonic clock."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}  # by tickets that only their clients know

    def join(self, beginning: Beginning, now: float) -> str | None:
        """The ticket of a new request, or None when too many wait."""
        if self.length(now) >= MOST_WAITING:
            return None
        ticket = secrets.token_urlsafe(16)
        self._requests[ticket] = Request(beginning, now)
        return ticket

    def place(self, ticket: str, now: float) -> int | None:
        """The place of a request (1 = the next), or None for one that is not there any more. Keeps
        the place."""
        self._forget(now)
        if ticket not in self._requests:
            return None
        self._requests[ticket].heard = now
        return list(self._requests).index(ticket) + 1

    def take(self, ticket: str) -> Beginning | None:
        """What a request asked for, which waits no longer."""
        request = self._requests.pop(ticket, None)
        return request.beginning if request else None

    def length(self, now: float) -> int:
        """How many wait."""
        self._forget(now)
        return len(self._requests)

    def _forget(self, now: float) -> None:
        for ticket, request in tuple(self._requests.items()):
            if now - request.heard > GONE_SECONDS:
                del self._requests[ticket]

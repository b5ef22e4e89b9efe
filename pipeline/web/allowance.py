"""How many messages a client may send: a pure count over its own clock."""

from dataclasses import dataclass
from math import inf

RATE = 1000.0  # messages a second; a page sends about 60, a busy gamepad 100
BURST = 1000.0  # messages that may come at once
LONGEST_EXCESS = 10.0  # seconds


@dataclass
class Allowance:
    """Spends one message at a time. Beyond the allowance a client is read no faster than RATE, so
    that its flood waits in its own network buffers; one that floods on and on is sent away."""

    _spent_until: float = -inf  # the moment by which RATE has paid for everything taken
    _since: float = inf  # start of the excess that goes on

    def take(self, now: float) -> float:
        """Count one message; returns the seconds to wait before the next is read."""
        self._spent_until = max(self._spent_until, now - BURST / RATE) + 1 / RATE
        wait = max(0.0, self._spent_until - now)
        self._since = min(self._since, now) if wait else inf
        return wait

    def is_exhausted(self, now: float) -> bool:
        """Whether the excess has gone on for too long."""
        return now - self._since > LONGEST_EXCESS

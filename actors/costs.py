"""What the worlds of a launcher cost, as it was measured, and how many of them fit."""

import os
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from actors.source import WorldInfo

SAMPLES: Final = 256  # steps that are looked back on
LEAST: Final = 16  # of them, before anything is said
SHARE: Final = 0.8  # of a group's time that may be planned with
# of the processors' time, where workers share them with the launcher; the rest is for Ray, viewers
# and whatever else the host does: on two cores ten or eleven worlds are admitted so
BUSY: Final = 0.68


@dataclass(frozen=True)
class Load:
    """What one replica carries: worlds that are awake and that rest, the steps it has made, and the
    seconds that each group was busy with them."""

    awake: int
    resting: int
    steps: int
    step_seconds: float
    decode_seconds: float


class Costs:
    """Of one replica: seconds that a step takes of each group, and seconds of processors."""

    def __init__(self) -> None:
        self._count = 0
        self._busy = [0.0, 0.0]  # seconds of the two groups since it began
        self._steps: deque[float] = deque(maxlen=SAMPLES)
        self._decodes: deque[float] = deque(maxlen=SAMPLES)
        self._processors: deque[float] = deque(maxlen=SAMPLES)

    def took(self, step: float, decode: float, processors: float) -> None:
        """One more step was made, and its frames. processors: seconds of those of this host."""
        self._count += 1
        self._busy = [self._busy[0] + step, self._busy[1] + decode]
        self._steps.append(step)
        self._decodes.append(decode)
        self._processors.append(processors)

    def load(self, awake: int, resting: int) -> Load:
        """With so many worlds."""
        return Load(awake, resting, self._count, *self._busy)

    @property
    def known(self) -> bool:
        """Enough was measured."""
        return len(self._steps) >= LEAST

    @property
    def longer(self) -> float:
        """Median seconds of the longer of the two stages."""
        return max(statistics.median(self._steps), statistics.median(self._decodes))

    @property
    def processors(self) -> float:
        """Median seconds of this host's processors, all workers together."""
        return statistics.median(self._processors)


class Overhead:
    """Seconds of a processor that the launcher itself takes, for each step of any world."""

    def __init__(self) -> None:
        self._clock: deque[float] = deque(maxlen=SAMPLES)

    def took(self) -> None:
        """One more step was made."""
        self._clock.append(time.process_time())

    @property
    def seconds(self) -> float:
        """A step's share."""
        clock = self._clock
        return (clock[-1] - clock[0]) / (len(clock) - 1) if len(clock) > 1 else 0.0


def capacity(costs: Sequence[Costs], overhead: float, info: WorldInfo) -> int:
    """How many worlds keep their frame rate on replicas of these costs: each group has time for
    them, and so have the processors of this host. One a replica as long as nothing is known."""
    period = info.latents_per_step * info.latent_seconds
    groups = sum(max(1, int(SHARE * period / each.longer)) if each.known else 1 for each in costs)
    known = [each.processors for each in costs if each.known]
    if not known or not any(known):
        return groups
    step = statistics.mean(known) + overhead
    host = int(BUSY * len(os.sched_getaffinity(0)) * period / step)
    return max(1, min(groups, host))

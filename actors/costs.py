"""What the worlds of a replica cost, as it was measured, and how many of them fit."""

import statistics
from collections import deque
from typing import Final

from actors.source import WorldInfo

SAMPLES: Final = 256  # steps that are looked back on
LEAST: Final = 16  # of them, before anything is said
SHARE: Final = 0.8  # of the time of a group that may be planned with


class Costs:
    """Seconds that one step of a world takes of each group."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=SAMPLES)
        self._decodes: deque[float] = deque(maxlen=SAMPLES)

    def took(self, step: float, decode: float) -> None:
        """One more step was made, and its frames."""
        self._steps.append(step)
        self._decodes.append(decode)

    @property
    def step(self) -> float | None:
        """Median seconds of a step; None = not known yet."""
        return statistics.median(self._steps) if len(self._steps) >= LEAST else None

    @property
    def decode(self) -> float | None:
        """Median seconds of its decoding; None = not known yet."""
        return statistics.median(self._decodes) if len(self._decodes) >= LEAST else None

    def capacity(self, info: WorldInfo) -> int | None:
        """How many worlds keep their frame rate; None = not known yet, at least one."""
        if self.step is None or self.decode is None:
            return None
        period = info.latents_per_step * info.latent_seconds
        return max(1, int(SHARE * period / max(self.step, self.decode)))

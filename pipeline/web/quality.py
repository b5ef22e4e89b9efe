"""Picture qualities: which of them a viewer's link carries, a decision over how late its
acknowledgements come, and the JPEGs of each."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf

from pipeline.stage.audience import ShownFrame
from pipeline.video import encode_jpeg
from pipeline.web.film import Film

RUNGS = (85, 75, 60, 45)
CRF = {85: 22, 75: 26, 60: 29, 45: 33}  # of H.264, each about as good as its JPEG or better
# seconds beyond the empty link's round trip: more than a frame slot (62.5 ms) and its paint
LATE = 0.080
# bytes: a frame this small fits any link worth the name, so its lateness has another cause
SMALL = 6000
LATE_IN_A_ROW = 4
# seconds of punctual acknowledgements before a step up
FIRST_PATIENCE, LONGEST_PATIENCE = 5.0, 60.0


@dataclass
class Ladder:
    """Steps down after a few late acknowledgements, up again after a while without; hesitates
    longer after a relapse.

    ``round_trip`` is what the viewer measured with small messages (seconds, 0 = unknown); frames of
    up to ``small`` bytes are never late.
    """

    round_trip: float = 0.0
    small: int = SMALL
    _rung: int = 0
    _late: int = 0
    _calm_since: float = -inf
    _patience: float = FIRST_PATIENCE
    _raised: float = -inf

    @property
    def quality(self) -> int:
        return RUNGS[self._rung]

    def acked(self, delay: float, size: int, now: float) -> None:
        """A frame of ``size`` bytes was acknowledged ``delay`` seconds after it was sent."""
        if delay - self.round_trip > LATE and size > self.small:
            self._late += 1
            self._calm_since = now
            if self._late >= LATE_IN_A_ROW:
                self._down(now)
            return
        self._late = 0
        if self._calm_since == -inf:
            self._calm_since = now
        elif self._rung and now - self._calm_since >= self._patience:
            self._rung -= 1
            self._raised = self._calm_since = now

    def _down(self, now: float) -> None:
        relapse = now - self._raised < self._patience
        self._patience = min(2 * self._patience, LONGEST_PATIENCE) if relapse else FIRST_PATIENCE
        self._late = 0
        self._rung = min(self._rung + 1, len(RUNGS) - 1)


class Pictures:
    """JPEGs of the newest frame, and films of all, made once per quality however many viewers take
    them."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "film")
        self._films: dict[int, Film] = {}
        self._frame: ShownFrame | None = None
        self._made: dict[int, bytes] = {}

    def of(self, frame: ShownFrame, quality: int) -> bytes:
        """``frame`` as JPEG bytes."""
        if frame is not self._frame:
            self._frame, self._made = frame, {}
        if quality not in self._made:
            self._made[quality] = encode_jpeg(frame.image, quality)
        return self._made[quality]

    def film(self, quality: int) -> Film:
        """The frames at ``quality`` as H.264."""
        if quality not in self._films:
            self._films[quality] = Film(CRF[quality], self._worker)
        return self._films[quality]

    def close(self) -> None:
        """End the films' thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

"""Counting a show: totals for the summary, recent samples for the page, histograms for
Prometheus."""

import bisect
import math
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.stage.pacing import Placed, percentile

RECENT_SECONDS: Final = 10.0  # what "frames per second now" looks back on
RECENT_PAUSES: Final = 64  # a delay that spans more of them is no delay
RECENT_LATENTS: Final = 240  # one minute of latents for the split by stage
# seconds: of the histograms
BOUNDS: Final = (
    0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0,
)  # fmt: skip

# part of the delay -> the two stamps it lies between, in the order a control passes them
PARTS: Final = {
    "wait": ("received", "sampled"),
    "queue": ("sampled", "step_start"),
    "dit": ("step_start", "step_end"),
    "hop": ("step_end", "decode_start"),
    "decode": ("decode_start", "decode_end"),
    "back": ("decode_end", "arrived"),
    "pacing": ("arrived", "shown"),
}
OVERHEAD: Final = ("queue", "hop", "back")


@dataclass
class Times:
    """Durations of one kind in seconds: newest samples, and a histogram of all."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_LATENTS))
    # 8 bytes a latent: 115 kB an hour
    everything: "array[float]" = field(default_factory=lambda: array("d"))
    total: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float) -> None:
        self.recent.append(seconds)
        self.everything.append(seconds)
        self.total += seconds
        self.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1

    def percentiles(self, *percents: int, whole: bool = False) -> dict[str, float | None]:
        """{"p50": milliseconds, ...} of the newest samples or of the whole run; None without
        samples."""
        samples = list(self.everything if whole else self.recent)
        return {f"p{percent}": _milliseconds(percentile(samples, percent)) for percent in percents}


class Rate:
    """Frames per second, of the last seconds and on average; rests do not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._counted = 0
        self._last: float | None = None
        # (when, since the one before, frames)
        self._recent: deque[tuple[float, float, int]] = deque()
        self._anew = False

    def add(self, now: float, frames: int) -> float:
        """``frames`` came at ``now``; returns the seconds since the ones before (0 after a
        rest)."""
        gap = 0.0
        if self._last is not None:
            gap = now - self._last
            self.seconds += gap
            self._counted += frames
            if not self._anew:
                self._recent.append((now, gap, frames))
        self._last, self._anew = now, False
        return gap

    def until(self, now: float) -> float:
        """Seconds counted if something came now."""
        return self.seconds + (0.0 if self._last is None else now - self._last)

    def rest(self) -> None:
        self._last = None

    def anew(self) -> None:
        """What came, and the time until something comes again, say nothing of the speed from now
        on."""
        self._recent.clear()
        self._anew = True

    @property
    def recent_seconds(self) -> float:
        """Counted seconds that ``lately`` looks back on."""
        return sum(gap for _, gap, _ in self._recent)

    def average(self) -> float | None:
        return round(self._counted / self.seconds, 3) if self.seconds else None

    def lately(self, now: float) -> float:
        """Over the last ten seconds; 0 when nothing came."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        seconds = self.recent_seconds
        return round(sum(frames for _, _, frames in self._recent) / seconds, 2) if seconds else 0.0


class Standing:
    """The times at which the clock of the world stood."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=RECENT_PAUSES)
        self._since = math.inf

    def stop(self, now: float) -> None:
        self._since = min(self._since, now)

    def go_on(self, now: float) -> None:
        if self._since < now:
            self._spans.append((self._since, now))
        self._since = math.inf

    def lapse(self, since: float, until: float) -> None:
        """It stood from ``since`` to ``until``, as is seen only now."""
        if self._since > since:  # not within a pause
            self._spans.append((since, min(until, self._since)))

    def flowed(self, start: float, end: float) -> float:
        """Seconds from ``start`` to ``end`` in which time was meant to flow."""
        spans = [*self._spans, (self._since, math.inf)]
        stood = sum(max(0.0, min(end, until) - max(start, since)) for since, until in spans)
        return max(0.0, end - start - stood)


class Figures:
    """All counts of one show. Times are monotonic seconds; paused time does not count."""

    def __init__(self) -> None:
        self.frames = 0
        self.generated = 0
        self.stalls = 0
        self.late_slots = 0
        self.restarts = 0
        self.longest_gap = 0.0
        self.parts = {name: Times() for name in PARTS}
        # a latent's queue, hop and back together: neither the models' compute nor a wait
        self.overhead = Times()
        self.control = Times()
        self.reset = Times()  # from a reset to the first frame of the new world
        self.first_shown: float | None = None
        self.shown = Rate()
        self.made = Rate()
        self._standing = Standing()
        self._reset_at: float | None = None  # a reset that nothing has been shown of yet

    def chunk(self, frames: int, stamps: Mapping[str, float]) -> None:
        """A chunk of ``frames`` frames arrived (``stamps`` up to "arrived")."""
        self.generated += frames
        self.made.add(stamps["arrived"], frames)
        for name in ("queue", "dit", "hop", "decode", "back"):
            self._part(name, stamps)
        if all(stamp in stamps for name in OVERHEAD for stamp in PARTS[name]):
            self.overhead.add(
                sum(
                    stamps[end] - stamps[start] for start, end in (PARTS[name] for name in OVERHEAD)
                )
            )

    def frame(self, now: float, placed: Placed) -> None:
        """A frame is shown."""
        if self.first_shown is None:
            self.first_shown = now
        if self._reset_at is not None:
            self.reset.add(self._standing.flowed(self._reset_at, now))
            self._reset_at = None
        self.longest_gap = max(self.longest_gap, self.shown.add(now, 1))
        self.frames += 1
        self.late_slots += placed.late
        self.stalls += placed.stalled

    def latent(self, stamps: Mapping[str, float]) -> None:
        """The first frame of a latent is shown."""
        self._wait("pacing", stamps)

    def controlled(self, stamps: Mapping[str, float]) -> None:
        """The first frame of a new control is shown."""
        self._wait("wait", stamps)
        if "received" in stamps:
            self.control.add(self._standing.flowed(stamps["received"], stamps["shown"]))

    def broken(self) -> None:
        """A fault is being mended: it counts as a gap and a stall, and not as slowness."""
        self.restarts += 1
        self.shown.anew()
        self.made.anew()

    def reset_asked(self, now: float) -> None:
        """A reset was asked for."""
        self._reset_at = now
        self.rest()

    def pause(self, now: float) -> None:
        """The clock of the world stands until ``go_on``: what waits meanwhile is not late."""
        self._standing.stop(now)
        self.rest()

    def go_on(self, now: float) -> None:
        """It goes on."""
        self._standing.go_on(now)
        self.rest()

    def lapse(self, since: float, until: float) -> None:
        """Nobody ran from ``since`` to ``until``: as a pause that nobody asked for."""
        self._standing.lapse(since, until)
        self.rest()

    def rest(self) -> None:
        """The clock of the world stands (pause, reset): the time until the next frame does not
        count."""
        self.shown.rest()
        self.made.rest()

    def stats(self, now: float) -> dict[str, Any]:
        """The newest figures, plain JSON; see Show.stats."""
        return {
            "fps_generated": self.made.lately(now),
            "fps_shown": self.shown.lately(now),
            "frames": self.frames,
            "seconds": round(self.shown.seconds, 3),
            "stalls": self.stalls,
            "late_slots": self.late_slots,
            "restarts": self.restarts,
            "control_to_frame_ms": self.control.percentiles(50, 95, 99),
            "step_ms": self.parts["dit"].percentiles(50, 95, 99),
            "decode_ms": self.parts["decode"].percentiles(50, 95, 99),
            "split_ms": {name: times.percentiles(50, 95) for name, times in self.parts.items()},
        }

    def summary(self, begun: float, drops: int, rss: Mapping[str, float]) -> dict[str, Any]:
        """The record that ``--summary`` writes; ``begun`` is when the command started."""
        first = self.first_shown
        return {
            "frames": self.frames,
            "seconds": round(self.shown.seconds, 3),
            "fps_generated": self.made.average(),
            "fps_shown": self.shown.average(),
            "control_to_frame_ms": self.control.percentiles(50, 95, 99, whole=True),
            "step_ms": self.parts["dit"].percentiles(50, 95, whole=True),
            "decode_ms": self.parts["decode"].percentiles(50, 95, whole=True),
            "first_frame_seconds": None if first is None else round(first - begun, 3),
            "stalls": self.stalls,
            "late_slots": self.late_slots,
            "restarts": self.restarts,
            "drops": drops,
            "peak_rss_mb": dict(rss),
        }

    def _wait(self, name: str, stamps: Mapping[str, float]) -> None:
        """A part that is a wait: time that stood does not count."""
        start, end = PARTS[name]
        if start in stamps and end in stamps:
            self.parts[name].add(self._standing.flowed(stamps[start], stamps[end]))

    def _part(self, name: str, stamps: Mapping[str, float]) -> None:
        start, end = PARTS[name]
        if start in stamps and end in stamps:
            self.parts[name].add(max(0.0, stamps[end] - stamps[start]))


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(1000 * seconds, 2)

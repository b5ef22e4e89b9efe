"""Decisions about time, as pure functions over small frozen records: no clock, no sleeping, no I/O.

Two questions: when is the next frame due (``Slots``), and how early must a step start so that its first frame is
finished right when it is due (``Lead``). Times are seconds on one monotonic clock.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

SLOT_TOLERANCE: Final = 0.25  # of a slot: a frame this late still counts as on time and keeps the grid
STALL_SLOTS: Final = 2.0  # a gap above this many slots (125 ms at 16 FPS) is a stall that eyes notice

MARGIN_START: Final = 0.030
MARGIN_FLOOR: Final = 0.012
MARGIN_CEILING: Final = 0.120
MARGIN_DECAY: Final = 0.99  # per latent on time: halves in 69 latents (17 s)
LEAD_SAMPLES: Final = 64  # latents (16 s) that the 95th percentile looks back on


@dataclass(frozen=True)
class Slots:
    """The grid of frame slots. ``due`` is the next frame's time; None = show the next frame the moment it is there."""

    period: float
    due: float | None = None


@dataclass(frozen=True)
class Showing:
    """What showing one frame means: the new grid, slots that passed empty before it, and whether eyes saw a stall."""

    slots: Slots
    late: int = 0
    stalled: bool = False


def show(slots: Slots, now: float) -> Showing:
    """Show a frame at ``now``.

    A frame within the tolerance keeps the grid, so small jitter never adds up; a later one is shown at once and starts
    a new grid, because waiting for the old grid would only add delay.
    """
    if slots.due is None:
        return Showing(replace(slots, due=now + slots.period))
    lateness = now - slots.due
    if lateness <= SLOT_TOLERANCE * slots.period:
        return Showing(replace(slots, due=slots.due + slots.period))
    late = math.ceil(lateness / slots.period - SLOT_TOLERANCE)
    stalled = lateness + slots.period > STALL_SLOTS * slots.period
    return Showing(replace(slots, due=now + slots.period), late, stalled)


def restart(slots: Slots) -> Slots:
    """After a pause or a reset: the next frame is due as soon as it exists; the wait is neither late nor a stall."""
    return replace(slots, due=None)


@dataclass(frozen=True)
class Lead:
    """How long before its due time a step starts.

    ``samples`` are the newest times from the start of a step to its frames lying ready (step + decode + hops);
    ``margin`` is what is added to their 95th percentile.
    """

    samples: tuple[float, ...] = ()
    margin: float = MARGIN_START

    @property
    def seconds(self) -> float:
        """The lead; infinity (start at once) while nothing is known."""
        if not self.samples:
            return math.inf
        return percentile(self.samples, 95) + self.margin


def observe(lead: Lead, seconds: float) -> Lead:
    """A chunk took ``seconds`` from the start of its step to its arrival."""
    return replace(lead, samples=(*lead.samples, seconds)[-LEAD_SAMPLES:])


def adapt(lead: Lead, lateness: float) -> Lead:
    """After a latent's first frame, which was finished ``lateness`` after its slot (0 = in time).

    A late one would have needed that much more margin. It need not have been visible: the tolerance of a slot hides
    small lateness, and a margin that learns from it makes the visible kind rare.
    """
    margin = lead.margin + lateness if lateness else lead.margin * MARGIN_DECAY
    return replace(lead, margin=min(MARGIN_CEILING, max(MARGIN_FLOOR, margin)))


def start_time(lead: Lead, due: float | None, buffered: int, period: float) -> float:
    """When the step of the next latent should start: its first frame follows ``buffered`` finished ones.

    Returns 0 (at once) while there is no grid yet or no measurement.
    """
    seconds = lead.seconds
    if due is None or math.isinf(seconds):
        return 0.0
    return due + buffered * period - seconds


def percentile(samples: tuple[float, ...] | list[float], percent: float) -> float:
    """Nearest-rank percentile; nan without samples."""
    if not samples:
        return math.nan
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

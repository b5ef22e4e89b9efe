"""Decisions about time, as pure functions over small frozen records: no clock, no sleeping, no I/O.

Two questions: when is the next frame due (``Slots``), and how early must a step start so that its
first frame is finished right when it is due (``Lead``). Times are seconds on one monotonic clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

# of a slot: a frame this late still counts as on time and keeps the grid
SLOT_TOLERANCE: Final = 0.25
# a gap above this many slots (125 ms at 16 FPS) is a stall that eyes notice
STALL_SLOTS: Final = 2.0

MARGIN_START: Final = 0.060  # generous: nothing is known yet about how slow a slow step is
MARGIN_FLOOR: Final = 0.012
MARGIN_CEILING: Final = 0.120
# latents on time (12 s) that halve the margin, until slowness comes back
MEMORY_START: Final = 48.0
MEMORY_CEILING: Final = 384.0
# per latent on time: a machine that has become quiet is believed after minutes
MEMORY_FADE: Final = 0.9995
SPELL: Final = 16  # latents on time that part two slow spells from one
LEAST_SAMPLES: Final = 4  # measurements before steps start just in time
LEAD_SAMPLES: Final = 64  # latents (16 s) that the 95th percentile looks back on


@dataclass(frozen=True)
class Slots:
    """The grid of frame slots. ``due`` is the next frame's time; None = show the next frame the
    moment it is there."""

    period: float
    due: float | None = None


@dataclass(frozen=True)
class Placed:
    """What a frame at its moment means: the new grid, slots that passed empty before it, and whether
    eyes saw a stall."""

    slots: Slots
    late: int = 0
    stalled: bool = False


def place(slots: Slots, now: float) -> Placed:
    """Place a frame on the grid at ``now``.

    A frame within the tolerance keeps the grid, so small jitter never adds up; a later one is shown
    at once and starts a new grid, because waiting for the old grid would only add delay.
    """
    if slots.due is None:
        return Placed(replace(slots, due=now + slots.period))
    lateness = now - slots.due
    if lateness <= SLOT_TOLERANCE * slots.period:
        return Placed(replace(slots, due=slots.due + slots.period))
    late = math.ceil(lateness / slots.period - SLOT_TOLERANCE)
    stalled = lateness + slots.period > STALL_SLOTS * slots.period
    return Placed(replace(slots, due=now + slots.period), late, stalled)


def restart(slots: Slots) -> Slots:
    """After a pause or a reset: the next frame is due as soon as it exists; the wait is neither
    late nor a stall."""
    return replace(slots, due=None)


@dataclass(frozen=True)
class Lead:
    """How long before its due time a step starts.

    ``samples`` are the newest times from the start of a step to its frames lying ready (step +
    decode + hops); ``margin`` is what is added to their 95th percentile. ``memory`` is the number
    of latents on time that halve it, and ``calm`` counts those since the last late one.
    """

    samples: tuple[float, ...] = ()
    margin: float = MARGIN_START
    memory: float = MEMORY_START
    calm: int = 0

    @property
    def seconds(self) -> float:
        """The lead; infinity (start at once) while too little is known."""
        if len(self.samples) < LEAST_SAMPLES:
            return math.inf
        return percentile(self.samples, 95) + self.margin


def observe(lead: Lead, seconds: float) -> Lead:
    """A chunk took ``seconds`` from the start of its step to its arrival."""
    return replace(lead, samples=(*lead.samples, seconds)[-LEAD_SAMPLES:])


def adapt(lead: Lead, lateness: float) -> Lead:
    """After a latent's first frame, which was finished ``lateness`` after its slot (0 = in time).

    A late one would have needed that much more margin. It need not have been visible: the tolerance
    of a slot hides small lateness, and a margin that learns from it makes the visible kind rare.
    One slow spell is soon forgotten; on a machine where they come back, each one doubles the time
    that the next is expected for.
    """
    if lateness:
        memory = min(MEMORY_CEILING, 2 * lead.memory) if lead.calm >= SPELL else lead.memory
        return replace(
            lead, margin=min(MARGIN_CEILING, lead.margin + lateness), memory=memory, calm=0
        )
    margin = max(MARGIN_FLOOR, lead.margin * 0.5 ** (1 / lead.memory))
    memory = max(MEMORY_START, lead.memory * MEMORY_FADE)
    return replace(lead, margin=margin, memory=memory, calm=lead.calm + 1)


def start_time(lead: Lead, due: float | None, buffered: int, period: float) -> float:
    """When the step of the next latent should start: its first frame follows ``buffered`` finished
    ones.

    Returns 0 (at once) while there is no grid yet or too little was measured.
    """
    seconds = lead.seconds
    if due is None or math.isinf(seconds):
        return 0.0
    return due + buffered * period - seconds


def percentile(samples: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile; nan without samples."""
    if not samples:
        return math.nan
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

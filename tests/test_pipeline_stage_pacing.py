"""Pacing decisions, without a clock."""

import math
import random
import statistics
from dataclasses import dataclass, field

import pytest

from pipeline.stage import pacing
from pipeline.stage.pacing import Lead, Slots

SLOT = 1 / 16


def test_the_first_frame_is_shown_when_it_comes():
    placed = pacing.place(Slots(SLOT), 5.0)
    assert (placed.slots.due, placed.late, placed.stalled) == (5.0 + SLOT, 0, False)


def test_small_jitter_keeps_the_grid():
    slots = pacing.place(Slots(SLOT), 0.0).slots
    for frame in range(1, 1001):
        placed = pacing.place(slots, frame * SLOT + (frame % 5) * 0.003)
        assert placed.late == 0
        slots = placed.slots
    assert slots.due == pytest.approx(1001 * SLOT)


@pytest.mark.parametrize(
    ("lateness", "late", "stalled"),
    [
        (0.0, 0, False),
        (0.015, 0, False),
        (0.020, 1, False),
        (0.060, 1, False),
        (0.070, 1, True),
        (0.200, 3, True),
    ],
)
def test_a_late_frame_counts_missed_slots_and_starts_a_new_grid(lateness, late, stalled):
    placed = pacing.place(Slots(SLOT, due=1.0), 1.0 + lateness)
    assert (placed.late, placed.stalled) == (late, stalled)
    assert placed.slots.due == pytest.approx((1.0 if late == 0 else 1.0 + lateness) + SLOT)


def test_a_pause_is_neither_late_nor_a_stall():
    placed = pacing.place(pacing.restart(Slots(SLOT, due=1.0)), 60.0)
    assert (placed.late, placed.stalled, placed.slots.due) == (0, False, 60.0 + SLOT)


def test_nothing_measured_means_start_at_once():
    assert pacing.start_time(Lead(), 100.0, 4, SLOT) == 0.0
    assert pacing.start_time(Lead((0.1,) * 9), None, 4, SLOT) == 0.0
    few = Lead((0.1,) * (pacing.LEAST_SAMPLES - 1))
    assert pacing.start_time(few, 100.0, 4, SLOT) == 0.0
    assert pacing.start_time(pacing.observe(few, 0.1), 100.0, 4, SLOT) > 100.0


def test_a_step_starts_so_that_its_first_frame_is_ready_when_due():
    lead = Lead(tuple([0.150] * 99 + [0.9]), margin=0.010)
    assert lead.seconds == pytest.approx(0.160)
    assert pacing.start_time(lead, 10.0, 3, SLOT) == pytest.approx(10.0 + 3 * SLOT - 0.160)


def test_the_lead_follows_the_newest_samples():
    lead = Lead()
    for _ in range(1000):
        lead = pacing.observe(lead, 0.5)
    for _ in range(pacing.LEAD_SAMPLES):
        lead = pacing.observe(lead, 0.1)
    assert len(lead.samples) == pacing.LEAD_SAMPLES
    assert lead.seconds == pytest.approx(0.1 + lead.margin)


def test_the_margin_grows_after_a_late_slot_and_shrinks_again():
    lead = Lead()
    grown = pacing.adapt(lead, 0.02)
    assert grown.margin == pytest.approx(lead.margin + 0.02)
    for _ in range(20):
        grown = pacing.adapt(grown, 0.02)
    assert grown.margin == pacing.MARGIN_CEILING
    for _ in range(1000):
        grown = pacing.adapt(grown, 0.0)
    assert grown.margin == pacing.MARGIN_FLOOR


def latents_to_halve(lead):
    """How many latents on time it takes."""
    margin, count = lead.margin, 0
    while lead.margin > margin / 2:
        lead, count = pacing.adapt(lead, 0.0), count + 1
    return count


def after_calm(lead, latents):
    for _ in range(latents):
        lead = pacing.adapt(lead, 0.0)
    return lead


def test_slowness_that_comes_back_is_remembered_longer_each_time():
    once = pacing.adapt(after_calm(Lead(), 200), 0.05)
    twice = pacing.adapt(after_calm(once, 200), 0.05)
    assert latents_to_halve(Lead()) < latents_to_halve(once) < latents_to_halve(twice)
    often = twice
    for _ in range(20):
        often = pacing.adapt(after_calm(often, 200), 0.05)
    assert often.memory == pacing.MEMORY_CEILING
    assert after_calm(often, 10_000).memory == pacing.MEMORY_START


def test_one_slow_spell_counts_once():
    spell = pacing.adapt(after_calm(Lead(), 200), 0.05)
    longer = pacing.adapt(pacing.adapt(after_calm(spell, 3), 0.05), 0.05)
    assert longer.memory == pytest.approx(spell.memory, rel=0.01)


def test_percentiles_are_nearest_rank():
    assert pacing.percentile([3, 1, 2, 4], 50) == 2
    assert pacing.percentile(list(range(1, 101)), 95) == 95
    assert pacing.percentile([7], 99) == 7
    assert math.isnan(pacing.percentile([], 50))


@dataclass
class Played:
    """What a simulated run showed. Seconds; ``waits`` is how long each latent lay finished before
    its slot."""

    waits: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    late: int = 0


def play(step, latents):
    """Play ``latents`` with a generator that takes ``step(i)`` and is never more than two latents
    ahead."""
    slots, lead, free, played, shown = Slots(SLOT), Lead(), 0.0, Played(), 0.0
    for latent in range(latents):
        earliest = (slots.due or 0.0) - 8 * SLOT
        begin = max(free, earliest, pacing.start_time(lead, slots.due, 0, SLOT))
        free = arrival = begin + step(latent)
        lead = pacing.observe(lead, arrival - begin)
        now = arrival if slots.due is None else max(arrival, slots.due)
        played.waits.append(now - arrival)
        lead = pacing.adapt(lead, max(0.0, arrival - (slots.due or arrival)))
        for _ in range(4):
            placed = pacing.place(slots, max(now, slots.due or 0.0))
            played.late += placed.late
            played.gaps.append(max(now, slots.due or 0.0) - shown)
            shown, slots = max(now, slots.due or 0.0), placed.slots
    played.gaps.pop(0)  # before the first frame
    return played


def simulate(step, latents):
    """Returns waits of finished frames and late slots."""
    played = play(step, latents)
    return played.waits, played.late


def test_frames_do_not_lie_waiting_and_none_is_late_on_a_steady_machine():
    waits, late = simulate(lambda i: 0.120 + 0.01 * (i % 3), 400)
    assert late == 0
    assert max(waits[100:]) < 0.035


def test_a_slow_spell_costs_some_slots_and_is_forgotten():
    waits, late = simulate(lambda i: 0.220 if 100 <= i < 110 else 0.120, 600)
    assert 0 < late < 6
    assert max(waits[400:]) < 0.015


TEN_MINUTES = 2400  # latents


def usual(chance):
    """A step on two cores that others use now and then: 100 ms and a tail."""
    return 0.100 + chance.gammavariate(2.0, 0.0085)


def rarely_slow(latent, chance):
    """One step in 400 takes 60 to 120 ms longer: a page that loads, a disk that writes."""
    return usual(chance) + (chance.uniform(0.06, 0.12) if chance.random() < 1 / 400 else 0.0)


def in_bursts(latent, chance):
    """Three seconds of every minute, something else takes a third of the machine."""
    return usual(chance) * (1.4 if latent % 240 >= 228 else 1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("step", "stalls", "wait"),
    [
        (lambda latent, chance: usual(chance), 0, 0.055),
        (rarely_slow, 1, 0.075),
        (in_bursts, 0, 0.070),
    ],
    ids=["usual", "rarely slow", "in bursts"],
)
def test_ten_minutes_are_even(step, stalls, wait, seed):
    chance = random.Random(seed)
    played = play(lambda latent: step(latent, chance), TEN_MINUTES)
    frames = 4 * TEN_MINUTES
    assert played.late < 0.001 * frames
    assert frames / sum(played.gaps) == pytest.approx(16, abs=0.1)
    assert sum(gap > 0.125 for gap in played.gaps) <= stalls
    assert statistics.median(played.waits) < wait

"""Pacing decisions, without a clock."""

import math

import pytest

from pipeline import pacing
from pipeline.pacing import Lead, Slots

SLOT = 1 / 16


def test_the_first_frame_is_shown_when_it_comes():
    showing = pacing.show(Slots(SLOT), 5.0)
    assert (showing.slots.due, showing.late, showing.stalled) == (5.0 + SLOT, 0, False)


def test_small_jitter_keeps_the_grid():
    slots = pacing.show(Slots(SLOT), 0.0).slots
    for frame in range(1, 1001):
        showing = pacing.show(slots, frame * SLOT + (frame % 5) * 0.003)
        assert showing.late == 0
        slots = showing.slots
    assert slots.due == pytest.approx(1001 * SLOT)


@pytest.mark.parametrize(
    ("lateness", "late", "stalled"),
    [(0.0, 0, False), (0.015, 0, False), (0.020, 1, False), (0.060, 1, False), (0.070, 1, True), (0.200, 3, True)],
)
def test_a_late_frame_counts_missed_slots_and_starts_a_new_grid(lateness, late, stalled):
    showing = pacing.show(Slots(SLOT, due=1.0), 1.0 + lateness)
    assert (showing.late, showing.stalled) == (late, stalled)
    assert showing.slots.due == pytest.approx((1.0 if late == 0 else 1.0 + lateness) + SLOT)


def test_a_pause_is_neither_late_nor_a_stall():
    showing = pacing.show(pacing.restart(Slots(SLOT, due=1.0)), 60.0)
    assert (showing.late, showing.stalled, showing.slots.due) == (0, False, 60.0 + SLOT)


def test_nothing_measured_means_start_at_once():
    assert pacing.start_time(Lead(), 100.0, 4, SLOT) == 0.0
    assert pacing.start_time(Lead((0.1,)), None, 4, SLOT) == 0.0


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


def test_percentiles_are_nearest_rank():
    assert pacing.percentile([3, 1, 2, 4], 50) == 2
    assert pacing.percentile(list(range(1, 101)), 95) == 95
    assert pacing.percentile([7], 99) == 7
    assert math.isnan(pacing.percentile([], 50))


def simulate(step, latents, jitter=lambda i: 0.0):
    """Play ``latents`` with a generator that takes ``step(i)``; returns waits of finished frames and late slots."""
    slots, lead, free, late, waits = Slots(SLOT), Lead(), 0.0, 0, []
    for latent in range(latents):
        begin = max(free, pacing.start_time(lead, slots.due, 0, SLOT))
        arrival = begin + step(latent)
        free = arrival
        lead = pacing.observe(lead, arrival - begin)
        now = arrival if slots.due is None else max(arrival, slots.due)
        waits.append(now - arrival)
        showing = pacing.show(slots, now)
        lead = pacing.adapt(lead, max(0.0, arrival - (slots.due or arrival)))
        late, slots = late + showing.late, showing.slots
        for _ in range(3):
            slots = pacing.show(slots, slots.due or 0.0).slots
    return waits, late


def test_frames_do_not_lie_waiting_and_none_is_late_on_a_steady_machine():
    waits, late = simulate(lambda i: 0.120 + 0.01 * (i % 3), 400)
    assert late == 0
    assert max(waits[100:]) < 0.035


def test_a_slow_spell_costs_some_slots_and_is_forgotten():
    waits, late = simulate(lambda i: 0.220 if 100 <= i < 110 else 0.120, 600)
    assert 0 < late < 6
    assert max(waits[400:]) < 0.015

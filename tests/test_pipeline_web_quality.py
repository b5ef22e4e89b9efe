"""Which quality a link carries: a decision over a clock that the test turns."""

from pipeline.web.quality import LATE_IN_A_ROW, RUNGS, Ladder

BIG = 60_000


def test_a_fast_link_keeps_the_best_quality():
    ladder = Ladder()
    for frame in range(1000):
        ladder.acked(0.02, BIG, frame / 16)
    assert ladder.quality == RUNGS[0] == 85


def test_late_acknowledgements_lower_the_quality_step_by_step():
    ladder, seen = Ladder(), []
    for frame in range(6 * LATE_IN_A_ROW):
        ladder.acked(0.5, BIG, frame / 16)
        seen.append(ladder.quality)
    assert sorted(set(seen), reverse=True) == list(RUNGS) == [85, 75, 60, 45] and seen[-1] == 45


def test_a_long_way_alone_is_no_reason():
    ladder = Ladder(round_trip=0.3)
    for frame in range(100):
        ladder.acked(0.34, BIG, frame / 16)
    assert ladder.quality == RUNGS[0]


def test_small_frames_are_never_the_reason():
    ladder = Ladder()
    for frame in range(100):
        ladder.acked(0.5, 3000, frame / 16)
    assert ladder.quality == RUNGS[0]


def test_quality_returns_after_calm_and_hesitates_after_a_relapse():
    ladder, now = Ladder(), 0.0

    def acks(delay: float, seconds: float) -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            ladder.acked(delay, BIG, now)
            now += 1 / 16

    acks(0.5, LATE_IN_A_ROW / 16)
    assert ladder.quality == RUNGS[1]
    acks(0.02, 5.5)
    assert ladder.quality == RUNGS[0]
    acks(0.5, LATE_IN_A_ROW / 16)
    acks(0.02, 6)
    assert ladder.quality == RUNGS[1], "a relapse doubles the patience"
    acks(0.02, 5)
    assert ladder.quality == RUNGS[0]

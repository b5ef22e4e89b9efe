"""What a show counts: delays by part, gaps, and the time that does not count."""

import pytest

from pipeline.stage.figures import Figures, Rate, Times
from pipeline.stage.pacing import Placed, Slots

STAMPS = {
    "received": 0.9,
    "sampled": 1.0,
    "step_start": 1.003,
    "step_end": 1.043,
    "decode_start": 1.047,
    "decode_end": 1.107,
    "arrived": 1.115,
    "shown": 1.150,
}


def shown(figures, now, late=0, stalled=False):
    figures.frame(now, Placed(Slots(1 / 16), late, stalled))


def test_the_parts_of_a_delay_add_up_to_the_whole():
    figures = Figures()
    figures.chunk(4, STAMPS)
    figures.latent(STAMPS)
    figures.controlled(STAMPS)
    parts = {name: times.total for name, times in figures.parts.items()}
    assert sum(parts.values()) == pytest.approx(figures.control.total) == pytest.approx(0.25)
    assert parts["wait"] == pytest.approx(0.1) and parts["pacing"] == pytest.approx(0.035)
    assert figures.overhead.total == pytest.approx(parts["queue"] + parts["hop"] + parts["back"])
    assert figures.generated == 4


def test_what_was_not_measured_is_not_counted():
    figures = Figures()
    figures.chunk(4, {"arrived": 1.0})
    assert figures.overhead.percentiles(50) == {"p50": None} and not figures.parts["dit"].everything


def test_a_reset_is_timed_to_its_first_frame_and_is_no_gap():
    figures = Figures()
    for number in range(4):
        shown(figures, number / 16)
    figures.reset_asked(0.2)
    for number in range(4):
        shown(figures, 0.5 + number / 16)
    assert list(figures.reset.everything) == [pytest.approx(0.3)]
    assert figures.longest_gap == pytest.approx(1 / 16) and figures.shown.seconds == pytest.approx(
        6 / 16
    )


def test_late_slots_stalls_and_the_longest_gap_are_counted():
    figures = Figures()
    shown(figures, 0.0)
    shown(figures, 0.2, late=2, stalled=True)
    shown(figures, 0.26)
    summary = figures.summary(-1.0, 3, {"launcher": 9.0})
    assert (summary["late_slots"], summary["stalls"], summary["drops"], summary["frames"]) == (
        2,
        1,
        3,
        3,
    )
    assert figures.longest_gap == pytest.approx(0.2) and summary["first_frame_seconds"] == 1.0


def test_a_rate_is_of_the_last_seconds():
    rate = Rate()
    for number in range(161):
        rate.add(number / 16, 1)
    assert rate.lately(10.0) == rate.average() == 16.0
    assert rate.lately(30.0) == 0.0 and rate.until(11.0) == pytest.approx(11.0)


def test_a_fault_is_a_gap_and_no_slowness():
    figures = Figures()
    for k in range(33):
        figures.shown.add(k / 16, 1)
    figures.broken()
    assert figures.shown.recent_seconds == 0, "so nothing is said of the speed meanwhile"
    assert figures.shown.add(14.0, 1) == 12.0
    for k in range(1, 33):
        figures.shown.add(14 + k / 16, 1)
    assert figures.shown.lately(16.0) == 16.0 and figures.restarts == 1
    assert figures.shown.seconds == 16.0, "on average it counts"


def test_the_histogram_counts_everything_and_percentiles_the_newest_minute():
    times = Times()
    for _ in range(240):
        times.add(0.3)
    for _ in range(240):
        times.add(0.01)
    assert times.percentiles(95) == {"p95": 10.0} and times.percentiles(95, whole=True) == {
        "p95": 300.0
    }
    assert sum(times.buckets) == 480 and times.total == pytest.approx(240 * 0.31)


def test_time_that_stood_is_no_delay():
    """Key at 1.0, paused from 2 to 62, sampled at 63, its frame waits through a second pause."""
    figures = Figures()
    figures.pause(2.0)
    figures.go_on(62.0)
    stamps = {**STAMPS, "received": 1.0, "sampled": 63.0, "arrived": 63.1, "shown": 93.2}
    figures.pause(63.15)
    figures.go_on(93.15)
    figures.latent(stamps)
    figures.controlled(stamps)
    assert figures.parts["wait"].total == pytest.approx(2.0)
    assert figures.parts["pacing"].total == pytest.approx(0.1)
    assert figures.control.total == pytest.approx(2.2)


def test_a_key_pressed_while_all_stands_counts_from_when_it_goes_on():
    figures = Figures()
    figures.pause(2.0)
    figures.go_on(62.0)
    figures.controlled({"received": 30.0, "sampled": 62.1, "shown": 62.3})
    assert figures.control.total == pytest.approx(0.3)


def test_a_reset_while_all_stands_is_timed_from_when_it_goes_on():
    figures = Figures()
    figures.pause(2.0)
    figures.reset_asked(3.0)
    figures.go_on(62.0)
    shown(figures, 62.1)
    assert list(figures.reset.everything) == [pytest.approx(0.1)]

"""How much a client may say: a count over a clock that the test turns."""

from pipeline.web.allowance import BURST, LONGEST_EXCESS, RATE, Allowance


def test_a_page_never_waits_and_a_flood_is_read_at_the_allowed_rate():
    page = Allowance()
    assert not any(page.take(second / 100) for second in range(10_000))
    flood, now, taken = Allowance(), 0.0, 0
    while now < 5:
        now += flood.take(now)
        taken += 1
    assert taken <= BURST + 5 * RATE + 2 and not flood.is_exhausted(now)
    while now < LONGEST_EXCESS + 1:
        now += flood.take(now)
    assert flood.is_exhausted(now)


def test_a_flood_whose_reader_wakes_late_is_a_flood_all_the_same():
    flood, now = Allowance(), 0.0
    while now < LONGEST_EXCESS + 2:
        now += flood.take(now) * 1.3  # a busy loop sleeps longer than it was asked to
    assert flood.is_exhausted(now)
    quiet = now + 5
    assert not flood.take(quiet) and not flood.is_exhausted(quiet)

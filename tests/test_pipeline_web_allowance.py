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

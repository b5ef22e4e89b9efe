"""The queue for a world: places, and who is forgotten. Its clock is ours."""

from pipeline import waiting as module
from pipeline.beginning import Beginning
from pipeline.waiting import Waiting


def beginning(seed: int) -> Beginning:
    return Beginning("a car", seed)


def test_first_come_first_served():
    queue = Waiting()
    tickets = [queue.join(beginning(seed), 0.0) for seed in range(3)]
    assert len(set(tickets)) == 3
    first, second, third = (ticket or "" for ticket in tickets)
    assert [queue.place(ticket, 1.0) for ticket in (first, second, third)] == [1, 2, 3]
    assert (queue.take(first) or beginning(9)).seed == 0 and queue.take(first) is None
    assert (queue.place(second, 2.0), queue.place(third, 2.0), queue.place(first, 2.0)) == (
        1,
        2,
        None,
    )


def test_who_does_not_ask_again_loses_the_place():
    queue = Waiting()
    gone, here = queue.join(beginning(0), 0.0) or "", queue.join(beginning(1), 0.0) or ""
    for now in (4.0, 8.0, 12.0):
        place = queue.place(here, now)
    assert place == 1 and queue.place(gone, 12.0) is None and queue.length(12.0) == 1
    assert queue.length(40.0) == 0


def test_the_queue_is_bounded_and_tickets_are_not_guessed(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    queue = Waiting()
    assert queue.join(beginning(0), 0.0) and queue.join(beginning(1), 0.0)
    assert queue.join(beginning(2), 0.0) is None
    assert queue.join(beginning(2), 20.0), "those who left make room"
    for ticket in ("", "../..", "x" * 9999):
        assert queue.place(ticket, 20.0) is None and queue.take(ticket) is None

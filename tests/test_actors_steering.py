"""What a step is told: the held key, or the drive that is followed."""

import numpy as np

from actors.source import Take
from actors.steering import Reset, Steering, route_of
from actors.timeline import Commit, Prompt, Route


def embedding(number: float) -> np.ndarray:
    return np.full((1, 2, 3), number, np.float32)


def steering() -> Steering:
    return Steering(Prompt("snow", 3, embedding(0)))


def test_the_held_label_is_every_latents_of_the_step() -> None:
    it = steering()
    it.held, it.cursor = "DL", 9
    order, prompt = it.next_step(10, 2)
    assert (order.index, order.labels, order.cursor) == (10, ("DL", "DL"), 9)
    assert (prompt.text, prompt.version) == ("snow", 3)


def test_a_take_is_in_charge_until_its_last_label() -> None:
    it = steering()
    it.held = "B"
    take = Take(5, ("D", "DL", "DR"), ("night", "night", "day"))
    it.follow(route_of(take, {"night": embedding(1), "day": embedding(2)}, it.prompt))
    assert it.prompt.text == "night" and it.prompt.version == 3
    assert it.next_step(0, 2)[0].labels == ("D", "DL")
    order, prompt = it.next_step(2, 2)
    assert order.labels == ("DR", "B") and prompt.text == "day"
    assert (prompt.embedding == embedding(2)).all()
    assert it.next_step(4, 2)[0].labels == ("B", "B")
    it.follow(Reset(6).route_under(it.prompt))
    assert it.prompt.text == "day"
    assert it.next_step(0, 2)[0].labels == ("B", "B")


def test_the_way_to_a_moment_is_followed_from_its_commit_on() -> None:
    it = steering()
    it.held = "B"
    road = Prompt("road", 1, embedding(4))
    it.follow(Route(Commit(8, 5, it.prompt), (("DL", it.prompt), ("DR", road))))
    assert [it.next_step(index, 1)[0].labels for index in (8, 9, 10)] == [("DL",), ("DR",), ("B",)]
    assert (it.prompt.text, it.prompt.version) == ("road", 3)


def test_what_led_from_earlier_moments_to_where_it_goes_on_is_known() -> None:
    prompt, night = steering().prompt, embedding(1)
    take = Take(5, ("D", "DL", "DR", "B"), ("night", "night", "night", "night"))
    past = (Commit(1, 5, prompt), Commit(2, 5, prompt))
    route = route_of(take, {"night": night}, prompt, (*past, Commit(3, 5, prompt)))
    assert [label for label, _ in route.led] == ["DL", "DR"] and route.past == past
    assert [(label, prompt.text) for label, prompt in route.way] == [("B", "night")]


def test_a_prompt_that_was_not_read_leaves_the_one_in_force() -> None:
    it = steering()
    it.follow(route_of(Take(5, ("D",), ("unread",)), {}, it.prompt))
    assert it.next_step(0, 1)[1].text == "snow"

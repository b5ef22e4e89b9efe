"""What a step is told: the held key, or the drive that is followed."""

import numpy as np

from actors.source import Take
from actors.steering import Reset, Steering
from actors.timeline import Prompt


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
    it.follow(Reset(5, take, {"night": embedding(1), "day": embedding(2)}))
    assert it.prompt.text == "night" and it.prompt.version == 3
    assert it.next_step(0, 2)[0].labels == ("D", "DL")
    order, prompt = it.next_step(2, 2)
    assert order.labels == ("DR", "B") and prompt.text == "day"
    assert (prompt.embedding == embedding(2)).all()
    assert it.next_step(4, 2)[0].labels == ("B", "B")
    it.follow(Reset(6, None, {}))
    assert it.next_step(0, 2)[0].labels == ("B", "B")


def test_a_prompt_that_was_not_read_leaves_the_one_in_force() -> None:
    it = steering()
    it.follow(Reset(5, Take(5, ("D",), ("unread",)), {}))
    assert it.next_step(0, 1)[1].text == "snow"

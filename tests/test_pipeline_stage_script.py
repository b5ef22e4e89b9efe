"""The script of a show: drives in order, each in charge until its last frame."""

from dataclasses import replace

import pytest

from actors.source import Take
from configs.errors import UserError
from pipeline.stage.script import Script

ONE = Take(1, ("D", "DL"), ("a", "a"))
TWO = Take(2, ("DR",), ("b",))


def test_takes_come_in_order_and_then_nobody_is_in_charge() -> None:
    script = Script([ONE, TWO], stops_after=True)
    for take in (ONE, TWO, None):
        assert script.turn_page() == take
        assert script.current == take


def test_a_take_is_over_with_its_last_latent() -> None:
    script = Script([ONE], stops_after=False)
    assert not script.is_over_with(2)  # nothing has begun
    script.turn_page()
    assert [script.is_over_with(latents) for latents in (0, 1, 2, 3)] == [False, False, True, False]


def test_what_is_left_of_a_take_counts_what_is_shown() -> None:
    script = Script([ONE, replace(ONE, first=2)], stops_after=False)
    assert script.left(-1) is None
    script.turn_page()
    assert [script.left(latent) for latent in (-1, 0, 1)] == [2, 1, None]
    script.turn_page()
    assert script.left(-1) is None, "it only leads to where a person goes on"


def test_a_person_who_begins_something_else_ends_it() -> None:
    script = Script([ONE, TWO], stops_after=False)
    script.turn_page()
    script.drop()
    assert script.current is None and script.turn_page() is None


def test_other_drives_take_the_place_of_those_that_wait() -> None:
    script = Script([ONE, ONE], stops_after=False)
    script.follow([TWO])
    assert script.turn_page() == TWO and script.turn_page() is None


@pytest.mark.parametrize(
    "takes",
    [
        [],
        [Take(1, (), ())],
        [ONE, Take(2, (), ())],
        [Take(-1, ("D",), ("a",))],
        [Take(1, ("UP",), ("a",))],
        [Take(1, ("D",), (" ",))],
    ],
)
def test_what_cannot_be_followed_changes_nothing(takes: list[Take]) -> None:
    script = Script([ONE], stops_after=False)
    with pytest.raises(UserError):
        script.follow(takes)
    assert script.turn_page() == ONE

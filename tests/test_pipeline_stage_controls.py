"""The held label: one cursor a change, one receipt a change that came through."""

import pytest

from configs.errors import UserError
from pipeline.stage.audience import Audience, ShownFrame
from pipeline.stage.controls import PENDING_CONTROLS, Controls
from tests.shown import shown
from tests.squares import Squares


def frame(cursor: int, label: str = "D", index: int = 8, **stamps: float) -> ShownFrame:
    return shown(index, label=label, cursor=cursor, stamps=stamps)


@pytest.fixture
def stage() -> tuple[Controls, Squares, list[dict]]:
    source, audience = Squares(), Audience()
    told: list[dict] = []
    audience.tell = lambda kind, **data: told.append(data)  # type: ignore[method-assign]
    return Controls(source, audience), source, told


def test_only_a_change_gets_a_new_cursor(stage) -> None:
    controls, source, _ = stage
    held = [controls.hold(label) for label in ("DL", "DL", "DR", "D", "D")]
    assert held == [1, 1, 2, 3, 3] and controls.held == "D"
    assert (source._held, source._cursor) == ("D", 3)
    with pytest.raises(UserError, match="label"):
        controls.hold("UP")
    assert controls.held == "D"


def test_the_first_frame_of_a_control_is_its_receipt_and_older_ones_are_superseded(stage) -> None:
    controls, _, told = stage
    controls.hold("DL")
    controls.hold("DR")
    answered = controls.came_through(frame(2, "DR"), scripted=False)
    assert told == [{"cursor": 2, "label": "DR", "frame": 8, "latent": 2, "epoch": 0}]
    assert answered.stamps["received"] > 0
    again = controls.came_through(frame(2, "DR", index=12), scripted=False)
    assert "received" not in again.stamps and len(told) == 1


def test_a_frame_from_before_answers_nothing(stage) -> None:
    controls, _, told = stage
    controls.hold("DL")
    assert "received" not in controls.came_through(frame(0), scripted=False).stamps and not told


def test_a_scripted_key_press_is_never_early_or_late(stage) -> None:
    controls, _, _ = stage
    pressed = controls.came_through(frame(0, "DL", sampled=5.0), scripted=True)
    assert pressed.stamps["received"] == 5.0
    held = controls.came_through(frame(0, "DL", sampled=6.0), scripted=True)
    assert "received" not in held.stamps


def test_what_nobody_answers_does_not_pile_up(stage) -> None:
    controls, _, told = stage
    for count in range(10 * PENDING_CONTROLS):
        controls.hold(("DL", "DR")[count % 2])
    controls.came_through(frame(10 * PENDING_CONTROLS), scripted=False)
    assert len(told) == 1

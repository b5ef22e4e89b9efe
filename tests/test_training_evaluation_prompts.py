"""Whether a prompt is followed is asked of frames that show it, and of frames that do not."""

from training.evaluation.held_out import simulated
from training.evaluation.probe import fitted_probe
from training.evaluation.prompts import named
from training.scene import Scene


def test_a_scene_is_named_part_by_part() -> None:
    probe, _ = fitted_probe(clips=150)
    shown = Scene("desert", "day", "red")
    frames = simulated(shown, 3_000_001, ["D"] * 2)[-1:]
    assert named(probe, frames, shown) == [True, True, True]
    assert named(probe, frames, Scene("snow", "day", "red")) == [False, True, True]
    assert named(probe, frames, Scene("desert", "night", "blue")) == [True, False, False]

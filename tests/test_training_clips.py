"""Clips of the driving world: the same again, and what they say of themselves."""

from training.clips import render_clip


def test_clips_repeat_and_carry_what_they_show() -> None:
    first, second = render_clip(7, 6), render_clip(7, 6)
    assert first.frames.tobytes() == second.frames.tobytes()
    assert (
        first.labels.shape == (6,)
        and first.scenes.shape == (6, 3)
        and first.motion.shape == (24, 2)
    )

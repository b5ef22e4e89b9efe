"""Clips of the driving world: the same again, and what they say of themselves."""

from training.clips import Recording, render_clip


def test_clips_repeat_and_carry_what_they_show() -> None:
    first, second = (render_clip(7, Recording(6)) for _ in range(2))
    assert first.frames.tobytes() == second.frames.tobytes()
    assert (
        first.labels.shape == (6,)
        and first.scenes.shape == (6, 3)
        and first.motion.shape == (24, 2)
    )

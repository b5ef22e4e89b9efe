"""Frames and latents of a video: each from the other, and what is no whole number of latents."""

import pytest

from configs.geometry import (
    FPS,
    FRAMES_PER_LATENT,
    LATENTS_PER_SECOND,
    frames_of,
    is_whole,
    latents_of,
)


@pytest.mark.parametrize(("latents", "frames"), [(1, 1), (2, 5), (17, 65)])
def test_frames_and_latents(latents: int, frames: int) -> None:
    assert frames_of(latents) == frames and latents_of(frames) == latents and is_whole(frames)


@pytest.mark.parametrize("frames", [-3, 0, 2, 4, 64, 66])
def test_what_is_no_whole_number_of_latents(frames: int) -> None:
    assert not is_whole(frames)


def test_four_latents_a_second() -> None:
    assert LATENTS_PER_SECOND * FRAMES_PER_LATENT == FPS == 16

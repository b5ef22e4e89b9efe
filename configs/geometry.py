"""The geometry of video, the same for all weights: what a latent is in frames and seconds. What it
is in pixels, an autoencoder's config says.

A video of n latents has 4 (n - 1) + 1 frames, because the first latent of a video holds one frame
(docs/reference.md section 7); a stream continues a video, so each of its latents is 4 frames.
"""

from typing import Final

FPS: Final = 16  # frames a second that the weights were trained on, and that a live world shows
FRAMES_PER_LATENT: Final = 4
LATENTS_PER_SECOND: Final = FPS // FRAMES_PER_LATENT


def frames_of(latents: int) -> int:
    """Frames of a video of ``latents`` latents: 4 n - 3."""
    return FRAMES_PER_LATENT * (latents - 1) + 1


def latents_of(frames: int) -> int:
    """Latents of a video of ``frames`` = 4 n - 3 frames; a last latent that is not full does not
    count."""
    return (frames - 1) // FRAMES_PER_LATENT + 1


def seconds_of(latents: int) -> float:
    """How long a video of ``latents`` latents lasts."""
    return frames_of(latents) / FPS


def is_whole(frames: int) -> bool:
    """Whether that many frames are a whole number of latents (1, 5, 9, ...)."""
    return frames >= 1 and frames == frames_of(latents_of(frames))

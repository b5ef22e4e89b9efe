"""Whole videos in one process: clips to frames and back, a stream as an iterator.

Legend: G noise groups, W latents per group, b late labels, S outer steps (docs/reference.md section
4).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from configs.geometry import FRAMES_PER_LATENT, latents_of
from configs.schema import StreamSettings
from models.controls import random_signal
from models.frames import to_uint8
from models.noise import BASE_DRAW, SeededNoise
from models.parts import Parts
from models.stage2 import base_latents
from models.tae import TinyVAE
from models.vae import FullVAE
from models.world import World

POSTERIOR_DRAW = BASE_DRAW + 1  # the autoencoder's own noise when a clip is encoded


@dataclass(frozen=True)
class VideoRequest:
    """What a whole video is made from. labels: one per latent, at least as many as it takes.
    guidance: None = the weights' own. height, width: pixels; None = the weights' own."""

    prompt: str
    labels: Sequence[str]
    seed: int
    guidance: float | None = None
    height: int | None = None
    width: int | None = None


def make_base(
    parts: Parts,
    request: VideoRequest,
    frames: int,
    steps: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Stage 2: scaled latents [(frames - 1) / 4 + 1, C, h, w] of a base clip. progress(done, total)
    is called after each step."""
    guidance = request.guidance
    if guidance is None:
        guidance = parts.checkpoint.streaming.guidance_scale
    return base_latents(
        parts.transformer,
        parts.controls,
        parts.encode([request.prompt] if guidance == 1.0 else [request.prompt, ""]),
        request.labels[: latents_of(frames)],
        frames=frames,
        steps=steps,
        guidance=guidance,
        seed=request.seed,
        size=parts.checkpoint.latent_size(request.height, request.width),
        progress=progress,
    )


def make_stream(
    parts: Parts,
    request: VideoRequest,
    steps: int,
    start: Tensor,
    settings: StreamSettings | None = None,
) -> Iterator[np.ndarray]:
    """Stages 3 and 4: the frames of S outer steps that go on from ``start`` (scaled latents
    [n, C, h, w]), uint8 [4, H, W, 3] at a time, so that latent k is conditioned on label k."""
    world = parts.world(settings, request.guidance, request.height, request.width)
    world.reset(request.seed, request.prompt, start, request.labels[: world.settings.latents])
    given = step_labels(world.settings, request.labels, steps)
    return (frames for _, frames in stream_frames(parts, world, given))


@torch.inference_mode()
def clip_frames(parts: Parts, latents: Tensor) -> np.ndarray:
    """Scaled latents [n, C, h, w] of a clip to uint8 [m, H, W, 3]: m = 4 n for even n, 4 n - 3 for
    odd n.

    The full autoencoder works in tiles, as the published offline scripts do (docs/reference.md
    section 7.1)."""
    unscaled = latents[None].to(parts.device, parts.dtype) / parts.checkpoint.scaling_factor
    vae = parts.autoencoder
    video = vae.decode(unscaled, tiled=True) if isinstance(vae, FullVAE) else vae.decode(unscaled)
    return to_uint8(video[0])


@torch.inference_mode()
def clip_latents(parts: Parts, frames: np.ndarray, seed: int = 0) -> Tensor:
    """Video uint8 [4 n + 1, H, W, 3] to scaled latents [n + 1, C, h, w], as a stream starts
    from. seed: of what the full autoencoder draws."""
    video = (
        torch.from_numpy(frames)
        .permute(0, 3, 1, 2)[None]
        .to(parts.device, parts.dtype)
        .div(127.5)
        .sub(1)
    )
    vae = parts.autoencoder
    if isinstance(vae, TinyVAE):  # it knows no single first frame: a still latent stands for it
        latents = vae.encode(
            torch.cat((video[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1), video), dim=1)
        )
    else:
        posterior = vae.encode(video, tiled=True)
        noise = SeededNoise(seed, posterior.mean.shape[2:])
        draws = torch.stack(
            [noise.draw(index, POSTERIOR_DRAW) for index in range(posterior.mean.shape[1])]
        )
        latents = posterior.sample(draws[None].to(posterior.mean))
    return latents[0] * parts.checkpoint.scaling_factor


def stream_frames(
    parts: Parts, world: World, labels: Iterable[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Step ``world`` (after its reset) for as long as ``labels`` last, W a step, and decode with a
    fresh decoder.

    Yields (latent index, uint8 [4, H, W, 3]). The full decoder needs two latents before it gives
    the first."""
    decoder = parts.decoder()
    source, window, decoded = iter(labels), world.settings.window_size, world.index
    while len(given := list(itertools.islice(source, window))) == window:
        for latent in world.step(given).latents:
            for frames in _latents_of(decoder.push(latent[None])):
                yield decoded, frames
                decoded += 1


def _latents_of(frames: np.ndarray) -> Iterator[np.ndarray]:
    return (
        frames[start : start + FRAMES_PER_LATENT]
        for start in range(0, len(frames), FRAMES_PER_LATENT)
    )


def fill_signal(labels: Sequence[str], count: int, seed: int) -> list[str]:
    """Labels, followed by random ones (a fresh generator) until there are ``count``
    (docs/reference.md section 5)."""
    return [*labels, *random_signal(max(0, count - len(labels)), seed)]


def signal_length(settings: StreamSettings, steps: int) -> int:
    """Labels that S outer steps are given in the published scripts: W (S + G) + 1."""
    return settings.window_size * (steps + settings.noise_groups) + 1


def step_labels(settings: StreamSettings, labels: Sequence[str], steps: int) -> Iterator[str]:
    """The labels to give at each of S outer steps so that latent k ends up conditioned on label k.

    A label given at a step reaches the group that is emitted G - b steps later (b late labels; the
    published b = 1 has the label enter at the noisiest group).
    """
    first = 1 + (settings.noise_groups - settings.late_labels) * settings.window_size
    return iter(labels[first : first + steps * settings.window_size])

"""Whole videos in one process: a weight folder's parts loaded once, clips to frames and back, a
stream as an iterator.

Legend: G noise groups, W latents per group, b late labels, S outer steps (docs/reference.md section
4).
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from configs.geometry import FRAMES_PER_LATENT
from configs.schema import StreamSettings
from models.checkpoint import Checkpoint, served_stream
from models.controls import random_signal
from models.device import pick_dtype
from models.frames import StreamDecoder, to_uint8
from models.noise import BASE_DRAW, SeededNoise
from models.stage2 import base_latents
from models.tae import TinyVAE
from models.text import TextEncoder
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.vae import FullVAE
from models.world import World

POSTERIOR_DRAW = BASE_DRAW + 1  # the autoencoder's own noise when a clip is encoded
PROMPTS_KEPT = 8  # embeddings; the published ones take 2 MB each


class Parts:
    """A weight folder's parts on one device, each loaded when it is first needed and then kept."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: str = "auto") -> None:
        """dtype: auto, float32, bfloat16 or float16 (`device.pick_dtype`). Raises UserError for
        another name."""
        self.checkpoint, self.device = checkpoint, device
        self.dtype, self._dtype_name = pick_dtype(dtype, device), dtype
        self._encoded: dict[tuple[str, ...], Tensor] = {}

    @property
    def streaming(self) -> StreamSettings:
        return self.checkpoint.streaming

    @property
    def transformer_config(self) -> TransformerConfig:
        return self.checkpoint.transformer_config

    @property
    def height(self) -> int:
        return self.checkpoint.height

    @property
    def width(self) -> int:
        return self.checkpoint.width

    def transformer(self, device: torch.device, dtype: torch.dtype) -> Transformer:
        """The transformer; it lives on this object's device whatever is asked for."""
        return self._transformer

    def control_embeddings(self) -> Tensor:
        """[10, Dc] fp32: nine labels and the null control."""
        return self._controls

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> "Parts":
        """Something that encodes prompts: this object, which remembers the last ones."""
        return self

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [n, N_t, Dt]; the text encoder is loaded at the first new prompt."""
        key = tuple(prompts)
        if key not in self._encoded:
            if len(self._encoded) >= PROMPTS_KEPT:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = self._text.encode(prompts)
        return self._encoded[key]

    @functools.cached_property
    def autoencoder(self) -> FullVAE | TinyVAE:
        return self.checkpoint.autoencoder(self.device, self.dtype)

    def decoder(self) -> StreamDecoder:
        """A fresh streaming decoder, as live mode has it."""
        return served_stream(self.autoencoder, dtype=self._dtype_name)

    @functools.cached_property
    def _transformer(self) -> Transformer:
        return self.checkpoint.transformer(self.device, self.dtype)

    @functools.cached_property
    def _controls(self) -> Tensor:
        return self.checkpoint.control_embeddings()

    @functools.cached_property
    def _text(self) -> TextEncoder:
        return self.checkpoint.text_encoder(self.device, self.dtype)


def base_clip(
    parts: Parts,
    prompt: str,
    labels: Sequence[str],
    *,
    frames: int,
    guidance: float,
    seed: int,
    steps: int = 50,
    height: int | None = None,
    width: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Stage 2: scaled latents [(frames - 1) / 4 + 1, C, h, w] for a prompt and one label per
    latent."""
    return base_latents(
        parts.transformer(parts.device, parts.dtype),
        parts.control_embeddings(),
        parts.encode([prompt] if guidance == 1.0 else [prompt, ""]),
        labels,
        frames=frames,
        steps=steps,
        guidance=guidance,
        seed=seed,
        height=height or parts.height,
        width=width or parts.width,
        progress=progress,
    )


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
def clip_latents(parts: Parts, frames: np.ndarray, seed: int) -> Tensor:
    """Video uint8 [4 n + 1, H, W, 3] to scaled latents [n + 1, C, h, w], as a stream starts
    from."""
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

"""Stage 2: text and controls to one base clip, all latents at one noise level (docs/reference.md
sections 3.4 and 5)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from configs.errors import UserError
from configs.geometry import is_whole, latents_of
from models.controls import label_id
from models.denoiser import guide
from models.noise import BASE_DRAW, SeededNoise
from models.schedulers import ddim_step, dynamic_guidance, trailing_timesteps
from models.transformer import Transformer


@torch.inference_mode()
def base_latents(
    transformer: Transformer,
    control_embeddings: Tensor,
    text: Tensor,
    labels: Sequence[str],
    *,
    frames: int,
    steps: int = 50,
    guidance: float = 6.0,
    seed: int = 42,
    size: tuple[int, int],
    noise: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Sample a base clip with DDIM and the dynamic guidance rule; returns scaled latents [F, C, h,
    w].

    control_embeddings [10, Dc]; text [2, N_t, Dt], prompt then empty prompt ([1, N_t, Dt] with
    guidance 1); labels: F = (frames - 1) / 4 + 1 of them, one per latent; size: (h, w) in latents;
    noise [F, C, h, w] in place of the seed's. progress(done, total) is called after each step.
    Raises UserError for sizes and counts that do not fit."""
    config, dtype = transformer.config, transformer.proj_out.weight.dtype
    device = transformer.proj_out.weight.device
    count = latents_of(frames)
    _check(frames, labels, guidance, text)
    shape = (config.in_channels, *size)
    transformer.grid(*size)
    latents = (_noise(seed, shape, count) if noise is None else noise).to(device, dtype)
    control = control_embeddings[[label_id(label) for label in labels]][None].to(device, dtype)
    tokens = transformer.embed_text((text[:1] if guidance == 1.0 else text).to(device, dtype))
    for done, timestep in enumerate(trailing_timesteps(steps), start=1):
        row = transformer.modulate(torch.tensor([timestep], device=device))
        batch = latents.expand(tokens.tokens.shape[0], *latents.shape)
        velocity = transformer.denoise(batch, tokens, row, transformer.control_keys(control, row))
        scale = dynamic_guidance(guidance, timestep, steps)
        latents = ddim_step(latents, guide(velocity, scale), timestep, steps)
        if progress:
            progress(done, steps)
    return latents


def _noise(seed: int, shape: tuple[int, ...], count: int) -> Tensor:
    """Where the clip's latents start: [count, C, h, w]."""
    seeded = SeededNoise(seed, shape)
    return torch.stack([seeded.draw(latent, BASE_DRAW) for latent in range(count)])


def _check(frames: int, labels: Sequence[str], guidance: float, text: Tensor) -> None:
    """Raise UserError for counts that do not fit."""
    count = latents_of(frames)
    if not is_whole(frames):
        raise UserError(f"base clip: the number of frames must be 4 n + 1, got {frames}")
    if len(labels) != count:
        raise UserError(
            f"base clip of {frames} frames: expected {count} labels, one per latent, got {len(labels)}"
        )
    if guidance != 1.0 and text.shape[0] != 2:
        raise UserError(
            f"base clip with guidance: expected embeddings of prompt and empty prompt, got {list(text.shape)}"
        )

"""How well the autoencoder alone shows the simulator's frames again."""

from __future__ import annotations

import numpy as np

from models.tae import TinyVAE
from training.autoencoder import reconstruction_psnr
from training.clips import Recording, render_clip
from training.simulator import Frame
from training.view import SMALL, View

FIRST_SEED, LATENTS = 4_000_000, 12  # of held-out clips, and their length


def clips(count: int, view: View = SMALL) -> Frame:
    """Held-out clips [count, 48, H, W, 3]."""
    how = Recording(LATENTS, view)
    return np.stack([render_clip(FIRST_SEED + k, how).frames for k in range(count)])


def reconstruction(vae: TinyVAE, count: int) -> dict[str, float]:
    """PSNR of encoded and decoded held-out clips."""
    values = reconstruction_psnr(vae, clips(count, View(vae.config.patch_size)))
    return {
        "reconstruction_db": float(values.mean()),
        "reconstruction_median_db": float(np.median(values)),
        "clips": count,
    }

"""Tiny autoencoders of a few channels, and how far two tensors are apart."""

from dataclasses import replace

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.tae import TinyVAE, TinyVAEConfig
from tests.places import GOLDEN

SMALL = TinyVAEConfig(
    (4, 8, 8, 12), (16, 12, 8, 4), latent_channels=6, residual_shortcuts=True, scaling_factor=0.7
)
PATCHED = replace(SMALL, patch_size=2)


def random_vae(config: TinyVAEConfig = SMALL) -> TinyVAE:
    """With biases that show, and activations that neither die nor explode."""
    torch.manual_seed(1)
    vae = TinyVAE(config).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return vae


def published_vae() -> TinyVAE:
    """A small one in the published layout."""
    tensors = load_file(GOLDEN / "taecvx_shaped.safetensors")
    vae = TinyVAE(TinyVAEConfig.from_tensors(tensors, scaling_factor=1.15258426))
    vae.load_state_dict(tensors, strict=True)
    return vae.eval()


def error(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest number that was expected."""
    assert ours.shape == expected.shape
    return float((ours - expected).abs().max() / expected.abs().max())

"""Tiny autoencoders of a few channels, and how far two tensors are apart."""

from dataclasses import replace
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.tae import TinyVAE, TinyVAEConfig
from tests.places import GOLDEN

Module = TypeVar("Module", bound=nn.Module)
SMALL = TinyVAEConfig(
    (4, 8, 8, 12), (16, 12, 8, 4), latent_channels=6, residual_shortcuts=True, scaling_factor=0.7
)
PATCHED = replace(SMALL, patch_size=2)


def random_vae(config: TinyVAEConfig = SMALL) -> TinyVAE:
    """With biases that show, and activations that neither die nor explode."""
    torch.manual_seed(1)
    return shaken(TinyVAE(config), 0.05)


@torch.no_grad()
def shaken(module: Module, deviation: float) -> Module:
    """In place: every parameter moved a little, so that none is at its default."""
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * deviation)
    return module.eval()


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

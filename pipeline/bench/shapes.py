"""The published networks, and the same networks small, with random weights made where they run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from models.tae import TinyVAE, TinyVAEConfig
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.vae import FullVAE
from models.vae_config import FullVAEConfig

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Shape:
    """Configs of the three networks; times: runs that are measured, latents: of a stream."""

    transformer: TransformerConfig
    full: FullVAEConfig
    tiny: TinyVAEConfig
    times: int
    latents: int


PUBLISHED: Final = Shape(
    TransformerConfig(control_start_layer=15),
    FullVAEConfig(),
    TinyVAEConfig(),
    times=20,
    latents=60,
)
TINY: Final = Shape(
    TransformerConfig(
        num_attention_heads=4,
        attention_head_dim=16,
        num_layers=3,
        time_embed_dim=32,
        text_embed_dim=32,
        sample_height=4,
        sample_width=6,
        max_text_seq_length=16,
        control_dim=24,
        control_start_layer=1,
        control_end_layer=3,
    ),
    FullVAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
    TinyVAEConfig(encoder_widths=(4, 4, 4, 4), decoder_widths=(16, 8, 8, 4)),
    3,
    4,
)
SHAPES: Final = {"published": PUBLISHED, "tiny": TINY}


def transformer(shape: Shape, device: torch.device, dtype: torch.dtype) -> Transformer:
    """A transformer of that shape."""
    return _filled(lambda: Transformer(shape.transformer), device, dtype)


def full_decoder(shape: Shape, device: torch.device, dtype: torch.dtype) -> FullVAE:
    """A full autoencoder of that shape, ordered as one that was loaded."""
    vae = _filled(lambda: FullVAE(shape.full), device, dtype)
    return vae.channels_last() if device.type == "cpu" else vae


def tiny_decoder(shape: Shape, device: torch.device, dtype: torch.dtype) -> TinyVAE:
    """A tiny autoencoder of that shape."""
    return _filled(lambda: TinyVAE(shape.tiny), device, dtype)


def fill(name: str, weight: Tensor) -> Tensor:
    """Random numbers in place, such that what passes through this parameter keeps its size."""
    if weight.dim() > 1:
        return weight.normal_(std=weight[0].numel() ** -0.5)
    return weight.fill_(1) if name.endswith("weight") else weight.zero_()


def _filled(make: Callable[[], Network], device: torch.device, dtype: torch.dtype) -> Network:
    torch.manual_seed(0)
    with torch.device("meta"):
        empty = make()
    module = empty.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for name, weight in module.named_parameters():
        fill(name, weight)
    return module

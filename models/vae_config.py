"""Shapes of the full video autoencoder, as its config.json has them (docs/reference.md section 1.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from configs.errors import UserError
from configs.limits import real_number, whole_number

PIXELS_PER_LATENT: Final = 8  # of one latent's side: the three halvings of the published network

# Keys of the published config that are taken for granted: other values would mean another network.
ASSUMED = {
    "act_fn": "silu",
    "temporal_compression_ratio": 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "invert_scale_latents": False,
    "down_block_types": ["CogVideoXDownBlock3D"] * 4,
    "up_block_types": ["CogVideoXUpBlock3D"] * 4,
}
IGNORED = {"force_upcast"}


@dataclass(frozen=True)
class FullVAEConfig:
    """The keys of the published `vae/config.json` that matter; defaults are the published
    values."""

    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 3
    latent_channels: int = 16
    in_channels: int = 3
    out_channels: int = 3
    norm_num_groups: int = 32
    norm_eps: float = 1e-6
    sample_height: int = 480
    sample_width: int = 720
    scaling_factor: float = 1.15258426

    def __post_init__(self) -> None:
        for name in ("layers_per_block", "norm_num_groups"):
            whole_number(f"VAE config: {name}", getattr(self, name), 1, 64)
        for name in (
            "latent_channels",
            "in_channels",
            "out_channels",
            "sample_height",
            "sample_width",
        ):
            whole_number(f"VAE config: {name}", getattr(self, name), 1, 8192)
        for name in ("norm_eps", "scaling_factor"):
            real_number(f"VAE config: {name}", getattr(self, name), 1e-12, 1e6)
        widths, groups = self.block_out_channels, self.norm_num_groups
        whole = isinstance(widths, tuple) and all(
            type(width) is int and 0 < width <= 8192 for width in widths
        )
        if not whole or len(widths) != 4 or any(width % groups for width in widths):
            shown = list(widths) if isinstance(widths, tuple) else repr(widths)
            raise UserError(
                f"VAE config: block_out_channels must be four multiples of {groups}, got {shown}"[
                    :200
                ]
            )

    @property
    def pixels_per_latent(self) -> int:
        """Of one latent's side."""
        return PIXELS_PER_LATENT

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "FullVAEConfig":
        """From a `config.json`. Raises UserError for unknown keys and for values this decoder does
        not cover."""
        known: dict[str, Any] = {}
        for key, value in values.items():
            if key in FullVAEConfig.__dataclass_fields__:
                known[key] = tuple(value) if isinstance(value, list) else value
            elif key in ASSUMED and value != ASSUMED[key]:
                raise UserError(
                    f"VAE config: {key} must be {ASSUMED[key]!r}, got {value!r}: not this autoencoder"
                )
            elif key not in ASSUMED and key not in IGNORED and not key.startswith("_"):
                allowed = sorted({*FullVAEConfig.__dataclass_fields__, *ASSUMED})
                raise UserError(f"VAE config: unknown key {key!r}; known are {allowed}")
        return FullVAEConfig(**known)

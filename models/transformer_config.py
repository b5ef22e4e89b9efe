"""The shapes of a transformer, as its folder's config.json gives them (docs/reference.md section
1.2)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from configs.errors import UserError

# More is a mistake in a file, and takes for ever to refuse otherwise.
MAX_LAYERS, MAX_SIZE = 1024, 1 << 16
LARGE = 200_000_000  # parameters of the blocks

# Keys of the published config whose other values no published weights use.
_FIXED_KEYS: dict[str, Any] = {
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "use_rotary_positional_embeddings": False,
    "use_learned_positional_embeddings": False,
    "cond_proj_dim": None,
}
_NEWER_KEYS: dict[str, Any] = {"patch_bias": True}  # of later versions of diffusers


@dataclass(frozen=True)
class TransformerConfig:
    """Shapes of a transformer folder's config.json; defaults are the published class's
    (docs/reference.md section 1.2)."""

    num_attention_heads: int = 30
    attention_head_dim: int = 64
    in_channels: int = 16
    out_channels: int = 16
    num_layers: int = 30
    time_embed_dim: int = 512
    text_embed_dim: int = 4096
    attention_bias: bool = True
    sample_width: int = 90
    sample_height: int = 60
    sample_frames: int = 49
    patch_size: int = 2
    temporal_compression_ratio: int = 4
    max_text_seq_length: int = 226
    norm_elementwise_affine: bool = True
    norm_eps: float = 1e-5
    spatial_interpolation_scale: float = 1.875
    temporal_interpolation_scale: float = 1.0
    dropout: float = 0.0
    control_dim: int = 768
    control_start_layer: int = 0
    control_end_layer: int = 30
    control_zero_init: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(cast(bool | int | float, field.default))
            if kind is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not kind:
                raise UserError(
                    f"transformer config: {field.name} must be of type {kind.__name__}, got {value!r:.60}"
                )
            if kind is not bool:
                _check_size(field.name, getattr(self, field.name))
        if self.width % 16 or self.width > MAX_SIZE:
            raise UserError(
                f"transformer config: heads x head width must be a multiple of 16, at most {MAX_SIZE}, got {self.width}"
            )
        if not 0 <= self.control_start_layer <= self.control_end_layer <= self.num_layers:
            raise UserError(
                f"transformer config: control layers {self.control_start_layer}..{self.control_end_layer} must lie "
                f"within 0..{self.num_layers}"
            )

    @property
    def width(self) -> int:
        """D: channels of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def large(self) -> bool:
        """Whether the blocks, about 16 D^2 parameters each, take seconds for a step on a CPU, and
        gigabytes of memory."""
        return 16 * self.num_layers * self.width**2 > LARGE

    @property
    def steered(self) -> bool:
        """Whether there are control blocks, through which labels have an effect."""
        return self.control_end_layer > self.control_start_layer

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TransformerConfig":
        """Read a published config.json's mapping. Raises UserError for settings this class does not
        have."""
        known = {field.name for field in fields(TransformerConfig)}
        fixed = _FIXED_KEYS | _NEWER_KEYS
        for key, value in values.items():
            if key in fixed:
                if value != fixed[key]:
                    raise UserError(
                        f"transformer config: {key} = {value!r:.60} is not supported, only {fixed[key]!r}"
                    )
            elif key not in known and not key.startswith("_") and value not in (None, False):
                raise UserError(f"transformer config: unknown key {key[:60]!r} = {value!r:.60}")
        return TransformerConfig(**{key: value for key, value in values.items() if key in known})

    def to_json(self) -> str:
        """Write the published config.json's text, every key included."""
        values = {"_class_name": "CogVideoXTransformer3DModel", **_FIXED_KEYS, **asdict(self)}
        return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _check_size(name: str, value: int | float) -> None:
    """Raise UserError unless a network can be built with this setting; layers may be counted from
    0."""
    if name in ("control_start_layer", "control_end_layer", "dropout"):
        least: float = 0
    else:
        least = 1 if type(value) is int else 1e-12
    most = MAX_LAYERS if name == "num_layers" else MAX_SIZE
    if not least <= value <= most:
        bound = f"at least {least}" if value < least else f"at most {most}"
        raise UserError(f"transformer config: {name} must be {bound}, got {value}")

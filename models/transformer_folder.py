"""The folder of a transformer: its config.json and its weights, and the network made of them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from configs.errors import UserError
from models.lora import LoRA
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.weight_folder import weight_folder_meant
from models.weights import WeightFiles, listing, load_module, read_json

TRANSFORMER_CLASS = "CogVideoXTransformer3DModel"


def transformer_folder(path: Path) -> Path:
    """Return where a weight folder keeps its transformer: transformer/, or itself as in older
    revisions."""
    if (path / "transformer").is_dir():
        return path / "transformer"
    own = path / "config.json"
    if own.is_file() and "num_attention_heads" in read_json(own):
        return path
    raise UserError(
        f"{path}: no transformer/ there, so it is not a weight folder; {listing(path)}"
        f"{weight_folder_meant(path)}"
    )


def read_transformer_config(folder: Path, **changes: int) -> TransformerConfig:
    """Read a transformer folder's config.json, with some values changed."""
    values = read_json(folder / "config.json") | changes
    kind = values.get("_class_name", TRANSFORMER_CLASS)
    if kind != TRANSFORMER_CLASS:
        raise UserError(
            f"{folder / 'config.json'}: class {kind!r:.60}, expected {TRANSFORMER_CLASS}"
        )
    try:
        return TransformerConfig.from_json(values)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def open_transformer(
    folder: Path, variant: str | None = None
) -> tuple[TransformerConfig, WeightFiles]:
    """A transformer folder's shapes and headers. Where neither config nor weights know of control,
    as diffusers' own class saves them, it is a transformer without."""
    weights = WeightFiles.open(folder, variant)
    keys = [*read_json(folder / "config.json"), *weights.entries]
    if any(key.startswith("control_") for key in keys):
        return read_transformer_config(folder), weights
    return read_transformer_config(folder, control_start_layer=0, control_end_layer=0), weights


def empty_transformer(config: TransformerConfig) -> Transformer:
    """Build a transformer without memory for its weights."""
    with torch.device("meta"):
        return Transformer(config)


def read_transformer(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    loras: Sequence[tuple[LoRA, float]] = (),
    variant: str | None = None,
) -> Transformer:
    """Load the transformer in a folder of its own; LoRAs are fused in their order, each times its
    scale."""
    config, weights = open_transformer(folder, variant)
    module = empty_transformer(config)
    load_module(module, weights, device, dtype)
    for lora, scale in loras:
        lora.fuse(dict(module.named_parameters()), scale)
    return module

"""Updates of a transformer's weights from a LoRA file, added while the weights are loaded.

What is read, by the names its tensors end in (``LAYER`` is a module of the model, under any of the
usual prefixes, or with underscores for its dots as kohya's scripts write it):

=====================================================  ==========================================
LAYER.lora_A[.ADAPTER].weight, LAYER.lora_B...         LoRA (arXiv 2106.09685) as peft, diffusers
LAYER.lora_down.weight, LAYER.lora_up.weight           the same, as kohya's scripts and older files
LAYER.alpha                                            scale alpha / r; else from the file's metadata
LAYER.lora_B[.ADAPTER].bias                            a bias that comes with the update
LAYER.lora_magnitude_vector..., LAYER.dora_scale       DoRA (arXiv 2402.09353), one per output
LAYER.diff, LAYER.diff_b                               whole differences of weight and bias
=====================================================  ==========================================
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod, sqrt
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from configs.errors import UserError
from models.weights import WeightFiles, read_json

ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model", "adapter_config.json"  # as peft saves them

_PREFIX = re.compile(r"(?:base_model\.model\.|transformer\.|diffusion_model\.|model\.)+")
_KOHYA = re.compile(r"lora_(?:transformer|unet)_+")
_ADAPTER = r"(?:\.[\w-]+)?"  # peft's name of the adapter, "default" unless somebody chose one
_PARTS: Final = {
    "down": re.compile(rf"\.(?:lora_A{_ADAPTER}|lora_down|lora\.down)\.weight"),
    "up": re.compile(rf"\.(?:lora_B{_ADAPTER}|lora_up|lora\.up)\.weight"),
    "up_bias": re.compile(rf"\.lora_B{_ADAPTER}\.bias"),
    "alpha": re.compile(r"\.alpha"),
    "magnitude": re.compile(rf"\.(?:lora_magnitude_vector{_ADAPTER}(?:\.weight)?|dora_scale)"),
    "diff": re.compile(r"\.diff"),
    "diff_b": re.compile(r"\.diff_b"),
}
_OTHER_FORMS: Final = {
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "oft_": "OFT",
    "ia3_": "IA3",
    "lora_mid": "a Tucker decomposition (lora_mid)",
    "lora_embedding": "a LoRA of an embedding",
    "w_norm": "a norm's difference",
    "vera_": "VeRA",
}
_TEXT_ENCODER = re.compile(r"(?:lora_te\d*_|text_encoder)")


@dataclass
class _Layer:
    """The tensors' names of one layer, by part, and the scale of its low-rank product."""

    parts: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0


class LoRA:
    """One file of updates, known to fit the model it was opened for."""

    def __init__(self, file: Path, weights: WeightFiles, layers: Mapping[str, _Layer]) -> None:
        self._file = file
        self._weights = weights
        self._layers = layers

    @staticmethod
    def open(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> "LoRA":
        """Read the header, and the scales, which are single numbers; check every layer against the
        model's tensor shapes. Raises UserError, which names the form of what is not read."""
        weights = WeightFiles.open(file)
        layers = _layers(file, weights, shapes)
        if not layers:
            raise UserError(f"{file}: holds no LoRA tensors")
        settings = _adapter_settings(file, weights)
        for name, layer in layers.items():
            _check_layer(file, name, layer, weights, shapes)
            layer.scale = _scale(file, name, layer, weights, settings)
        return LoRA(file, weights, layers)

    def fingerprint(self) -> str:
        """A stable name of the file's contents."""
        return self._weights.fingerprint()

    def fuse(self, tensors: Mapping[str, Tensor], strength: float = 1.0) -> None:
        """Add the updates, times ``strength``, to the model's tensors in place, computed in fp32 on
        their device. Raises UserError where a result is not finite."""
        for name, layer in self._layers.items():
            target = tensors[f"{name}.weight"]
            held = self._weights.read(layer.parts.values(), target.device, torch.float32)
            parts = {part: held[key] for part, key in layer.parts.items()}
            updated = _updated(target.float(), parts, layer.scale * strength, strength)
            self._put(name, target, updated)
            bias = _bias_update(parts, layer.scale * strength, strength)
            if bias is not None:
                own = tensors[f"{name}.bias"]
                self._put(name, own, own.float() + bias)

    def _put(self, layer: str, target: Tensor, value: Tensor) -> None:
        target.copy_(value)
        if not bool(torch.isfinite(target).all()):
            raise UserError(
                f"{self._file}: LoRA layer {layer}: the updated weights are not finite in "
                f"{str(target.dtype).removeprefix('torch.')}; lower its strength, or fetch it again"
            )


def _updated(weight: Tensor, parts: Mapping[str, Tensor], scale: float, strength: float) -> Tensor:
    """The layer's weight [out, ...] with its low-rank product, magnitudes and difference."""
    if "down" in parts:
        product = parts["up"].flatten(1) @ parts["down"].flatten(1)
        weight = weight + scale * product.view(weight.shape)
    if "magnitude" in parts:  # DoRA: the direction of the sum, the learned length of every row
        length = weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        rows = (parts["magnitude"].flatten() / length).view(-1, *[1] * (weight.dim() - 1))
        weight = weight * rows
    if "diff" in parts:
        weight = weight + strength * parts["diff"].view(weight.shape)
    return weight


def _bias_update(parts: Mapping[str, Tensor], scale: float, strength: float) -> Tensor | None:
    """What is added to the layer's bias [out]; None = nothing."""
    updates = [scale * parts["up_bias"]] if "up_bias" in parts else []
    if "diff_b" in parts:
        updates.append(strength * parts["diff_b"])
    return sum(updates[1:], updates[0]) if updates else None


def _layers(
    file: Path, weights: WeightFiles, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, _Layer]:
    """The file's tensors by layer of the model and part. Raises UserError for what fits none."""
    known = {name.removesuffix(".weight") for name in shapes if name.endswith(".weight")}
    flat = {name.replace(".", "_"): name for name in known}
    layers: dict[str, _Layer] = {}
    for tensor in weights.entries:
        part, stem = _part_of(tensor)
        name = _PREFIX.sub("", stem, count=1) if _PREFIX.match(stem) else stem
        if _KOHYA.match(name):
            name = flat.get(_KOHYA.sub("", name, count=1), name)
        if not part or name not in known:
            raise UserError(f"{file}: LoRA tensor {tensor} {_why_not(tensor)}")
        if part in layers.setdefault(name, _Layer()).parts:
            raise UserError(
                f"{file}: LoRA layer {name} is there twice ({layers[name].parts[part]}, {tensor}); "
                "expected one adapter a file; give several files, each with its --lora"
            )
        layers[name].parts[part] = tensor
    return layers


def _part_of(tensor: str) -> tuple[str, str]:
    """Which part of a layer's update a tensor is ("" = none that is read), and the layer's name."""
    for part, pattern in _PARTS.items():
        for match in pattern.finditer(tensor):
            if match.end() == len(tensor):
                return part, tensor[: match.start()]
    return "", tensor


def _why_not(tensor: str) -> str:
    for sign, form in _OTHER_FORMS.items():
        if sign in tensor:
            return f"is of a form that is not read: {form}; merge it into the weights elsewhere"
    if _TEXT_ENCODER.match(tensor):
        return "updates a text encoder, which is not read; only the transformer's updates are"
    return "fits no layer of the model (expected LAYER.lora_A.weight)"


def _check_layer(
    file: Path,
    name: str,
    layer: _Layer,
    weights: WeightFiles,
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Raise UserError unless every part is there that another needs, in the model's shape."""
    found = {part: weights.entries[key].shape for part, key in layer.parts.items()}
    low_rank = bool({"down", "up", "alpha", "magnitude", "up_bias"} & found.keys())
    for half in ("down", "up"):
        if low_rank and half not in found:
            raise UserError(
                f"{file}: LoRA layer {name} has no {half} half (lora_A is down, lora_B is up)"
            )
    shape = shapes[f"{name}.weight"]
    if low_rank:
        _check_halves(file, name, found["down"], found["up"], shape)
    sizes = {"alpha": 1, "magnitude": shape[0], "diff": prod(shape)}
    sizes |= dict.fromkeys(("up_bias", "diff_b"), shape[0])
    for part, size in sizes.items():
        if part in found and prod(found[part]) != size:
            raise UserError(
                f"{file}: LoRA layer {name}: {layer.parts[part]}: expected {size} numbers, "
                f"found {list(found[part])}"
            )
        if part in ("up_bias", "diff_b") and part in found and f"{name}.bias" not in shapes:
            raise UserError(f"{file}: LoRA layer {name}: {layer.parts[part]}: it has no bias")


def _check_halves(
    file: Path,
    name: str,
    down: tuple[int, ...],
    up: tuple[int, ...],
    shape: tuple[int, ...],
) -> None:
    inputs, outputs = prod(shape[1:]), shape[0]
    matrices = len(down) >= 2 and len(up) >= 2
    fits = matrices and prod(down[1:]) == inputs and up[0] == outputs and prod(up[1:]) == down[0]
    if not fits or down[0] < 1:
        raise UserError(
            f"{file}: LoRA layer {name}: expected down [r, {inputs}] and up [{outputs}, r], r >= 1, "
            f"found {list(down)} and {list(up)}"
        )


def _adapter_settings(file: Path, weights: WeightFiles) -> Mapping[str, Any]:
    """The adapter's settings: diffusers keeps them in the file's metadata, peft in a file beside
    its own; {} without any."""
    text = weights.metadata.get("lora_adapter_metadata")
    beside = weights.files[0].parent / ADAPTER_CONFIG
    if text is None and weights.files[0].stem.startswith(ADAPTER_FILE) and beside.is_file():
        return read_json(beside)
    if text is None:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise UserError(f"{file}: lora_adapter_metadata: expected a JSON object of settings")
    return {key.removeprefix("transformer."): value for key, value in settings.items()}


def _scale(
    file: Path, name: str, layer: _Layer, weights: WeightFiles, settings: Mapping[str, Any]
) -> float:
    """alpha / r of a layer: its own alpha, else the adapter's; 1 where nobody says."""
    if "down" not in layer.parts:
        return 1.0
    rank = weights.entries[layer.parts["down"]].shape[0]
    if "alpha" in layer.parts:
        key = layer.parts["alpha"]
        return float(weights.read([key], torch.device("cpu"), torch.float32)[key].item()) / rank
    patterns = settings.get("alpha_pattern") or {}
    alpha = settings.get("lora_alpha", rank)
    if isinstance(patterns, dict):
        alpha = next((patterns[key] for key in patterns if _ends_in(name, key)), alpha)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise UserError(f"{file}: lora_alpha: expected a number, found {alpha!r:.40}")
    return alpha / (sqrt(rank) if settings.get("use_rslora") is True else rank)


def _ends_in(layer: str, pattern: object) -> bool:
    """peft's rule: a pattern names the layers whose last parts it is."""
    return isinstance(pattern, str) and (layer == pattern or layer.endswith(f".{pattern}"))

"""Low-rank updates (LoRA) added to a transformer's weights while they are loaded."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from configs.errors import UserError
from models.weights import Weights

_KEY = re.compile(
    r"(?:base_model\.model\.)?(?:transformer\.|diffusion_model\.)?(?P<layer>.+?)\."
    r"(?:(?P<half>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|(?P<alpha>alpha))"
)
_DOWN = ("lora_A", "lora_down")


class LoRA:
    """One LoRA file: W + alpha/r x up @ down for every layer it names (alpha = r where the file has
    none).

    Keys are those of diffusers and peft, ``LAYER.lora_A.weight`` and ``LAYER.lora_B.weight``, or
    ``lora_down`` and ``lora_up`` with an optional ``LAYER.alpha``; a leading ``transformer.`` or
    ``base_model.model.`` is dropped."""

    def __init__(self, weights: Weights, layers: Mapping[str, dict[str, str]]) -> None:
        self._weights = weights
        self._layers = layers

    @staticmethod
    def open(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> "LoRA":
        """Read the header and check every layer against the model's tensor shapes. Raises
        UserError."""
        weights = Weights.open(file)
        layers: dict[str, dict[str, str]] = {}
        for name in weights.entries:
            match = _KEY.fullmatch(name)
            if match is None or f"{match['layer']}.weight" not in shapes:
                raise UserError(
                    f"{file}: LoRA tensor {name} fits no layer of the model (expected LAYER.lora_A.weight)"
                )
            part = "alpha" if match["alpha"] else "down" if match["half"] in _DOWN else "up"
            layers.setdefault(match["layer"], {})[part] = name
        if not layers:
            raise UserError(f"{file}: holds no LoRA tensors")
        for layer, parts in layers.items():
            _check_layer(file, layer, parts, weights, shapes[f"{layer}.weight"])
        return LoRA(weights, layers)

    def fuse(self, tensors: dict[str, Tensor]) -> None:
        """Add the updates to the model's tensors in place, computed in fp32 on their device."""
        for layer, parts in self._layers.items():
            target = tensors[f"{layer}.weight"]
            halves = self._weights.read(parts.values(), target.device, torch.float32)
            down, up = halves[parts["down"]], halves[parts["up"]]
            scale = halves[parts["alpha"]].item() / down.shape[0] if "alpha" in parts else 1.0
            update = up.flatten(1) @ down.flatten(1)
            target.copy_(target.float() + scale * update.view(target.shape))


def _check_layer(
    file: Path, layer: str, parts: Mapping[str, str], weights: Weights, shape: tuple[int, ...]
) -> None:
    for half in ("down", "up"):
        if half not in parts:
            raise UserError(
                f"{file}: LoRA layer {layer} has no {half} half (lora_A is down, lora_B is up)"
            )
    down, up = (weights.entries[parts[half]].shape for half in ("down", "up"))
    inputs, outputs = torch.Size(shape[1:]).numel(), shape[0]
    fits = (
        len(down) >= 2
        and len(up) >= 2
        and torch.Size(down[1:]).numel() == inputs
        and up[0] == outputs
    ) and torch.Size(up[1:]).numel() == down[0]
    if (
        not fits
        or torch.Size(weights.entries[parts["alpha"]].shape if "alpha" in parts else []).numel()
        != 1
    ):
        raise UserError(
            f"{file}: LoRA layer {layer}: expected down [r, {inputs}] and up [{outputs}, r], "
            f"found {list(down)} and {list(up)}"
        )

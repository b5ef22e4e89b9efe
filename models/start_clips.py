"""The clips a stream may start from: start_clips.safetensors, scaled latents with their prompts."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from configs.errors import UserError
from configs.files import parse_json
from models.weights import WeightFiles

CLIPS_FILE = "start_clips.safetensors"


def read_clip(file: Path, prompt: str) -> Tensor:
    """The clip that suits a prompt best: [F', C, h, w] fp32, on the CPU."""
    clips = WeightFiles.open(file)
    name = choose_clip(prompt, clip_prompts(clips))
    return clips.read([name], torch.device("cpu"), torch.float32)[name]


def choose_clip(prompt: str, prompts: Mapping[str, str]) -> str:
    """Return the name of the clip whose prompt equals `prompt`, else shares most words with it,
    else the first."""
    wanted = _words(prompt)
    names = list(prompts)
    exact = [name for name in names if prompts[name].strip().lower() == prompt.strip().lower()]
    return exact[0] if exact else max(names, key=lambda name: len(wanted & _words(prompts[name])))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def clip_prompts(clips: WeightFiles) -> dict[str, str]:
    """Return the prompt of every clip, from the metadata's JSON list, in the order of the clips'
    numbers."""
    try:
        prompts = parse_json(clips.metadata.get("prompts", ""))
        if not isinstance(prompts, list):
            raise TypeError("no list")
        names = sorted(clips.entries, key=lambda name: int(name.removeprefix("clip.")))
        return dict(zip(names, map(str, prompts), strict=True))
    except (ValueError, TypeError):
        raise UserError(
            f'{clips.place}: expected tensors clip.0, clip.1, ... and metadata "prompts", a JSON list of as many texts'
        ) from None


def check_clips(clips: WeightFiles, channels: int) -> None:
    """Raise UserError unless every clip is [latents, channels, h, w]."""
    for name in clip_prompts(clips):
        shape = clips.entries[name].shape
        if len(shape) != 4 or shape[0] < 1 or shape[1] != channels:
            raise UserError(
                f"{clips.place}: {name}: expected [latents, {channels}, h, w], found {list(shape)}"
            )

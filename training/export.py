"""Writes the trained parts as weight folders in the published layout:
models/tiny/{stage2,stage3,stage4}.

stage3 is complete; stage2 shares its weights (one training serves both), stage4 is `transformer/`
only, as published; both take the other parts from their sibling stage3. Everything is stored in
fp16: a loader casts.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5EncoderModel

from configs.geometry import FRAMES_PER_LATENT
from models.controls import NULL_ID
from models.frames import to_uint8
from models.tae import TinyVAE
from models.transformer import Transformer
from training import autoencoder, diffusion, distill, int8
from training.captions import PRESET_SCENES, PRESETS, TEXT_LENGTH, known_words
from training.run import WEIGHTS
from training.settings import TrainSettings
from training.simulator import Simulator
from training.view import View

START_SEED = 2_000_000
START_LATENTS, WARM_UP_LATENTS = 5, 3
SCHEDULER = {
    "_class_name": "CogVideoXDDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 3.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}
INDEX = {
    "_class_name": "CogVideoXPipeline",
    "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    "vae": ["models.tae", "TinyVAE"],
}


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def _weights(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().half().cpu().contiguous() for name, tensor in tensors.items()},
        path,
        metadata,
    )


def write_transformer(folder: Path, transformer: Transformer) -> None:
    (folder / "transformer").mkdir(parents=True, exist_ok=True)
    (folder / "transformer" / "config.json").write_text(transformer.config.to_json())
    _weights(folder / "transformer" / WEIGHTS, transformer.state_dict())


def write_shared(
    folder: Path, vae: TinyVAE, text: T5EncoderModel, spiece: Path, control: Tensor
) -> None:
    """VAE, text encoder, tokenizer, scheduler and control vectors [10, Dc]."""
    _json(folder / "vae" / "config.json", vae.config.to_json())
    _weights(folder / "vae" / WEIGHTS, vae.state_dict())
    text_config = text.config.to_dict()
    _json(
        folder / "text_encoder" / "config.json",
        {**text_config, "architectures": ["T5EncoderModel"]},
    )
    shared = {
        name: tensor
        for name, tensor in text.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    _weights(folder / "text_encoder" / "model.safetensors", shared, {"format": "pt"})
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(spiece, folder / "tokenizer" / "spiece.model")
    _json(
        folder / "tokenizer" / "tokenizer_config.json",
        {"tokenizer_class": "T5Tokenizer", "model_max_length": TEXT_LENGTH},
    )
    _json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    vectors = {"control_embeddings": control[:NULL_ID], "null_control": control[NULL_ID]}
    save_file(
        {name: v.detach().float().cpu().contiguous() for name, v in vectors.items()},
        folder / "control_embeddings.safetensors",
    )


@torch.no_grad()
def start_clips(vae: TinyVAE) -> dict[str, Tensor]:
    """A few latents [START_LATENTS, C, h, w] of every preset prompt's scene, driving straight
    on."""
    clips = {}
    for k, scene in enumerate(PRESET_SCENES):
        drive = Simulator(scene, START_SEED + k, View(vae.config.patch_size))
        frames = drive.frames("D", (WARM_UP_LATENTS + START_LATENTS) * FRAMES_PER_LATENT)
        latents = vae.encode(autoencoder.to_video(frames)[None].to(next(vae.parameters()).device))[
            0
        ]
        clips[f"clip.{k}"] = latents[WARM_UP_LATENTS:] * vae.scaling_factor
    return clips


@torch.no_grad()
def write_pictures(folder: Path, vae: TinyVAE, clips: Mapping[str, Tensor]) -> None:
    """The last frame of every start clip as a JPEG, 0.jpg, 1.jpg, ... : what the page shows of a
    preset before anybody drives there."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(clips)):
        frames = to_uint8(vae.decode(clips[f"clip.{k}"][None] / vae.scaling_factor)[0])
        Image.fromarray(frames[-1]).save(folder / f"{k}.jpg", quality=88, subsampling=0)


def write(settings: TrainSettings, distilled: bool = True) -> int:
    """Writes all three folders from the runs and returns bytes; `distilled` False: stage 4 has
    stage 3's weights."""
    output = Path(settings.output)
    vae, world = autoencoder.trained(settings), diffusion.trained(settings)
    student = distill.trained(settings) if distilled else world.transformer
    spiece = Path(settings.work) / "spiece.model"
    stage2, stage3, stage4 = (output / f"stage{k}" for k in (2, 3, 4))
    write_transformer(stage3, world.transformer)
    write_transformer(stage2, world.transformer)
    write_transformer(stage4, student)
    write_shared(stage3, vae, world.text, spiece, world.control.weight)
    _json(stage3 / "model_index.json", INDEX)
    int8.write_if_possible(stage3)
    groups = {"noise_groups": settings.noise_groups, "window_size": 1}
    sampled = {
        **groups,
        "inference_steps": 20,
        "guidance_scale": settings.guidance_scale,
        "solver": "dpm",
    }
    single = {
        **groups,
        "inference_steps": settings.noise_groups,
        "original_steps": distill.ORIGINAL_STEPS,
        "guidance_scale": 1.0,
    }
    _json(stage2 / "streaming.json", {**sampled, "late_labels": 1})
    late = {"late_labels": settings.late_labels}
    _json(
        stage3 / "streaming.json",
        {**sampled, **late, "control_guidance": settings.control_guidance},
    )
    _json(stage4 / "streaming.json", {**single, **late, "solver": "consistency"})
    clips = start_clips(vae)
    _weights(stage3 / "start_clips.safetensors", clips, {"prompts": json.dumps(PRESETS)})
    _json(stage3 / "presets.json", list(PRESETS))
    write_pictures(stage3 / "presets", vae, clips)
    _json(stage3 / "words.json", known_words())
    return sum(os.path.getsize(path) for path in output.rglob("*") if path.is_file())

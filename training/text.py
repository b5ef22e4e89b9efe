"""Teaches the small T5 what prompts speak of, before anything is drawn from them: seconds instead
of hours.

Every token of an encoded caption has to tell biome, time of day and car colour. The transformer,
which sees the text matter only where a scene begins or changes, then finds it ready to be read.
(Trained along with the transformer, the text was still ignored after 1700 steps.)
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import T5Config, T5EncoderModel

from models.device import use_threads
from models.saving import save_tensors
from training.captions import TEXT_LENGTH, CaptionTokenizer, caption, train_tokenizer
from training.run import started
from training.scene import SIZES, Scene
from training.settings import TrainSettings

CAPTIONS = 48  # per step


def tokenizer(settings: TrainSettings) -> CaptionTokenizer:
    """The recipe's tokenizer, trained on captions where it is missing."""
    path = Path(settings.work) / "spiece.model"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        if settings.start:
            shutil.copyfile(Path(settings.start) / "stage3" / "tokenizer" / path.name, partial)
        else:
            train_tokenizer(partial, seed=settings.seed)
        os.replace(partial, path)
    return CaptionTokenizer(path)


def text_config(settings: TrainSettings, vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=settings.text_width,
        d_kv=16,
        d_ff=2 * settings.text_width,
        num_layers=settings.text_layers,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
    )


def scene_loss(
    model: T5EncoderModel, heads: nn.Linear, tokens: Tensor, scenes: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross entropy of every token's guesses at the scenes [B, 3], and the share that the last
    token gets right."""
    logits = heads(model(input_ids=tokens).last_hidden_state).split(list(SIZES), -1)
    wanted = scenes.repeat_interleave(TEXT_LENGTH, 0)
    losses = [F.cross_entropy(part.flatten(0, 1), wanted[:, k]) for k, part in enumerate(logits)]
    right = torch.stack([part[:, -1].argmax(-1) == scenes[:, k] for k, part in enumerate(logits)])
    return torch.stack(losses).sum(), right.float().mean()


def train(settings: TrainSettings) -> None:
    """Writes `text.safetensors` into the work folder, unless it is there."""
    path = Path(settings.work) / "text.safetensors"
    if path.exists():
        return
    words = tokenizer(settings)
    if settings.start:
        save_tensors(path, started(settings, "text_encoder/model.safetensors"))
        return
    use_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = T5EncoderModel(text_config(settings, words.pieces.vocab_size()))
    heads = nn.Linear(settings.text_width, sum(SIZES))
    optimiser = torch.optim.AdamW(
        [*model.parameters(), *heads.parameters()], lr=3e-3, weight_decay=1e-3
    )
    with tqdm(range(settings.text_steps), desc="text", unit="step", mininterval=5) as bar:
        for step in bar:
            rng = np.random.default_rng((settings.seed, 8, step))
            scenes = [Scene.random(rng) for _ in range(CAPTIONS)]
            tokens = torch.tensor([words(caption(scene, rng)) for scene in scenes])
            loss, right = scene_loss(
                model, heads, tokens, torch.tensor([scene.ids for scene in scenes])
            )
            for group in optimiser.param_groups:
                group["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * (1 - step / settings.text_steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if step % 25 == 0:
                bar.set_postfix(loss=float(loss.detach()), right=float(right), refresh=False)
    _save(model, path)


def _save(model: T5EncoderModel, path: Path) -> None:
    """Tied tensors are stored once, by their first name."""
    tensors = model.state_dict()
    save_tensors(path, {k: v for k, v in tensors.items() if k != "encoder.embed_tokens.weight"})


def trained(settings: TrainSettings) -> T5EncoderModel:
    """The text encoder, trained if it is not yet."""
    train(settings)
    model = T5EncoderModel(text_config(settings, tokenizer(settings).pieces.vocab_size()))
    missing = model.load_state_dict(
        load_file(Path(settings.work) / "text.safetensors"), strict=False
    )
    assert set(missing.missing_keys) <= {"encoder.embed_tokens.weight"}
    return model

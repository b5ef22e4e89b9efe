"""A complete weight folder with small random networks, in the published layout, for tests of
processes."""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import sentencepiece
import torch
from transformers import T5Config, T5EncoderModel

from models.saving import save_tensors
from models.tae import TinyVAE, TinyVAEConfig
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.vae import FullVAE
from models.vae_config import FullVAEConfig
from pipeline.bench.shapes import TINY

HEIGHT, WIDTH = 8 * TINY.transformer.sample_height, 8 * TINY.transformer.sample_width
CHANNELS, CONTROL_DIM = TINY.transformer.in_channels, TINY.transformer.control_dim
TEXT_WIDTH = TINY.transformer.text_embed_dim
PROMPTS = (
    "a red car on a desert road at noon",
    "a white car on a snowy road at night",
    "a car in green hills",
)


def spiece_model(sentences: Iterable[str], size: int = 60) -> bytes:
    """A SentencePiece model of about `size` pieces, with T5's special tokens."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    noise_groups: int = 2,
    late_labels: int = 2,
    full_vae: bool = False,
    solver: str = "consistency",
    patch_size: int = 1,
) -> Path:
    """Write a stage-4 folder (all parts in one; stage 2 or 3 with the solver "dpm") and return it.
    The same seed gives the same bytes. patch_size: of the tiny autoencoder; the picture is as many
    times HEIGHT x WIDTH."""
    torch.manual_seed(seed)
    _transformer(folder / "transformer", replace(TINY.transformer, control_start_layer=0))
    _vae(folder / "vae", full_vae, patch_size)
    _text(folder)
    settings = {
        "noise_groups": noise_groups,
        "inference_steps": noise_groups,
        "original_steps": 2 if noise_groups == 2 else 40,
        "late_labels": late_labels,
        "solver": solver,
    }
    (folder / "streaming.json").write_text(json.dumps(settings))
    controls = {
        "control_embeddings": 4 * torch.randn(9, CONTROL_DIM),
        "null_control": torch.zeros(CONTROL_DIM),
    }
    save_tensors(folder / "control_embeddings.safetensors", controls)
    shape = (noise_groups + 1, CHANNELS, HEIGHT // 8, WIDTH // 8)
    clips = {f"clip.{number}": torch.randn(shape) for number in range(len(PROMPTS))}
    save_tensors(folder / "start_clips.safetensors", clips, {"prompts": json.dumps(PROMPTS)})
    return folder


def _transformer(folder: Path, config: TransformerConfig) -> None:
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter.shape[1] ** 0.5)
    put_network(folder, config.to_json(), model.state_dict())


def _vae(folder: Path, full: bool, patch_size: int) -> None:
    vae: FullVAE | TinyVAE
    if full:
        text, vae = full_vae_json(TINY.full), FullVAE(TINY.full)
    else:
        config = TinyVAEConfig(
            encoder_widths=(4, 4, 8, 8),
            decoder_widths=(16, 8, 8, 4),
            residual_shortcuts=True,
            scaling_factor=1.0,
            patch_size=patch_size,
        )
        text, vae = json.dumps(config.to_json()), TinyVAE(config)
    put_network(folder, text, vae.state_dict())


def put_network(folder: Path, config: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a network's folder as diffusers does: the text of its config.json, and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config)
    save_tensors(folder / "diffusion_pytorch_model.safetensors", tensors)


def full_vae_json(config: FullVAEConfig) -> str:
    """The config.json of a full autoencoder."""
    return json.dumps({"_class_name": "AutoencoderKLCogVideoX", **asdict(config)})


def _text(folder: Path) -> None:
    for name in ("text_encoder", "tokenizer"):
        (folder / name).mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece_model(PROMPTS * 4))
    config = T5Config(vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    encoder = T5EncoderModel(config)
    state = {
        name: tensor
        for name, tensor in encoder.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config.to_dict()))
    save_tensors(folder / "text_encoder" / "model.safetensors", state)


def put(name: str, content: bytes) -> Callable[[Path], None]:
    """What puts a file into a weight folder, or another in its place."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change

"""Stages 2 and 3 in one set of weights: text and control to clips, and to endless streams.

Most samples are stage-3 windows: a clean conditioning latent and noise groups (two, half a schedule
apart, unless the settings say otherwise; docs/reference.md section 3.3). The rest are stage-2 clips
of up to 17 latents at one noise level. The control vectors are trained along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.controls import LABELS, NULL_ID
from models.device import mixed_precision, pick_device
from models.parallel import SINGLE, SequenceGroup
from models.saving import save_tensors
from models.schedulers import TRAIN_STEPS, alpha_table
from models.tae import ENCODER_LAST, PIXELS_PER_CELL, TinyVAE
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from training import autoencoder, text
from training.captions import TEXT_LENGTH, CaptionTokenizer, caption
from training.clips import read_shard
from training.growing import TOKEN_IN, TOKEN_OUT, finer_tokens, grown_ends
from training.optimise import Average, Optimiser
from training.run import WEIGHTS, Run, generator, started
from training.scene import Scene
from training.settings import TrainSettings

MIRRORED = torch.tensor(
    [LABELS.index(x) for x in ("D", "DR", "DL", "B", "BR", "BL", "N", "NR", "NL")] + [NULL_ID]
)
REVERSE = torch.tensor([LABELS.index(x) for x in ("B", "BR", "BL")])
LATENT_ENDS = (TOKEN_IN, f"{TOKEN_OUT}.weight", f"{TOKEN_OUT}.bias")
CLIP_LENGTHS = (5, 9, 5, 17)  # latents of stage-2 samples
TEXT_DROP, CONTROL_DROP, LATE_SHARE = 0.1, 0.07, 0.5
# of another scene in the conditioning latent, at most; of windows that have one
TRACE, TRACE_SHARE = 0.5, 0.2
# of windows that end so soon after the scene began to change
CHANGE_SHARE, CHANGE_LATENTS = 0.25, 6


@dataclass(frozen=True)
class Latents:
    """Encoded clips: latents fp16 [clips, n, C, h, w], labels [clips, n], scenes [clips, n, 3]."""

    latents: Tensor
    labels: Tensor
    scenes: Tensor


def encode(
    vae: TinyVAE, settings: TrainSettings, device: torch.device, held_out: bool = False
) -> Latents:
    """All clips as latents: encoded once (the result lies beside each shard), rendered first where
    they have to be; then frames that nothing else needs go."""
    shards, kept = (
        find(settings, held_out) for find in (autoencoder.shards, autoencoder.frames_kept)
    )
    # latents of other weights are made anew
    mark = float(vae.state_dict()[f"encoder.{ENCODER_LAST}.weight"].double().sum())
    missing = [shard for shard in shards if _mark(shard.with_suffix(".safetensors")) != mark]
    at_once = settings.processes
    for few in [missing[k : k + at_once] for k in range(0, len(missing), at_once)]:
        autoencoder.record(settings, few, held_out)
        for shard in autoencoder.progress(few, "encode"):
            _encode(vae, shard, mark, device)
            if shard not in kept:
                shard.unlink()
    found = [load_file(shard.with_suffix(".safetensors")) for shard in shards]
    names = Latents.__dataclass_fields__
    return Latents(**{name: torch.cat([part[name] for part in found]) for name in names})


def _mark(path: Path) -> float | None:
    try:
        return float(load_file(path)["mark"])
    except (OSError, SafetensorError, KeyError):  # none there, or a damaged one: made again
        return None


@torch.no_grad()
def _encode(vae: TinyVAE, shard: Path, mark: float, device: torch.device) -> None:
    clips = read_shard(shard)
    with mixed_precision(device):
        latents = [
            vae.encode(autoencoder.to_video(clip)[None].to(device))[0] for clip in clips["frames"]
        ]
    found = {
        "latents": torch.stack(latents).half().cpu().contiguous(),
        "labels": torch.from_numpy(clips["labels"]).long(),
        "scenes": torch.from_numpy(clips["scenes"]).long(),
        "mark": torch.tensor(mark, dtype=torch.float64),
    }
    save_tensors(shard.with_suffix(".safetensors"), found)


class WorldModel(nn.Module):
    """Transformer, control vectors (nine and the null vector), and the text encoder, which stays as
    it was taught."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.transformer = Transformer(transformer_config(settings))
        self.text = text.trained(settings).requires_grad_(False)
        self.control = nn.Embedding(NULL_ID + 1, settings.control_width)
        initialise(self.transformer)
        if settings.start:
            load_grown(self.transformer, started_transformer(settings))
            vectors = started(settings, "control_embeddings.safetensors")
            self.control.load_state_dict(
                {
                    "weight": torch.cat(
                        [vectors["control_embeddings"], vectors["null_control"][None]]
                    )
                }
            )

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        """latents [B, F, C, h, w], timesteps [B, F], token ids [B, N_t], label ids [B, F] ->
        velocity."""
        with mixed_precision(latents.device):
            words = self.text(input_ids=tokens).last_hidden_state
            velocity = self.transformer(latents, timesteps, words, self.control(labels))
        return velocity.float()


def started_transformer(settings: TrainSettings) -> dict[str, Tensor]:
    """The transformer that diffusion is to go on from: the one that it made itself, or where weights
    are shipped without it, its student. Raises UserError."""
    taught = (Path(settings.start) / "stage3" / "transformer").is_dir()
    return started(settings, f"transformer/{WEIGHTS}", "stage3" if taught else "stage4")


def load_grown(transformer: Transformer, tensors: Mapping[str, Tensor]) -> None:
    """Loads trained weights, which may have fewer latent channels or coarser tokens. Raises
    UserError."""
    own = transformer.state_dict()
    here, there = (each[TOKEN_IN].shape[-1] for each in (own, tensors))
    if here == 1 and there > 1:
        tensors = finer_tokens(tensors)
    transformer.load_state_dict(grown_ends(own, tensors, LATENT_ENDS))


def transformer_config(settings: TrainSettings) -> TransformerConfig:
    unit = PIXELS_PER_CELL * settings.scale
    return TransformerConfig(
        num_attention_heads=settings.heads,
        attention_head_dim=settings.head_width,
        num_layers=settings.layers,
        time_embed_dim=settings.time_width,
        text_embed_dim=settings.text_width,
        in_channels=settings.latent_channels,
        out_channels=settings.latent_channels,
        sample_width=settings.view.width // unit,
        sample_height=settings.view.height // unit,
        sample_frames=65,
        max_text_seq_length=TEXT_LENGTH,
        patch_size=settings.token,
        # places are counted in tokens of 2 x 2, whatever theirs is, so that one grows into the other
        spatial_interpolation_scale=2 / settings.token,
        control_dim=settings.control_width,
        control_start_layer=settings.control_start,
        control_end_layer=settings.layers,
    )


@torch.no_grad()
def initialise(transformer: Transformer) -> None:
    """Gates open a little, the head silent: what learned fastest (gates from zero took several
    times longer)."""
    width = transformer.config.width
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    for block in transformer.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            nn.init.normal_(norm.linear.weight, std=0.02)
            nn.init.zeros_(norm.linear.bias)
            norm.linear.bias.view(6, width)[[2, 5]] = 0.3
    for controlled in transformer.control_blocks:
        nn.init.normal_(controlled.norm1.linear.weight, std=0.02)
        nn.init.zeros_(controlled.norm1.linear.bias)
        controlled.norm1.linear.bias.view(6, width)[2] = 0.2


def is_muon(name: str, parameter: Tensor) -> bool:
    """The matrices inside the transformer's blocks."""
    return parameter.ndim == 2 and "_blocks." in name and (".attn1.to_" in name or ".ff." in name)


class Batches:
    """Draws training samples; sample i of a seed is always the same."""

    def __init__(self, data: Latents, tokenizer: CaptionTokenizer, settings: TrainSettings) -> None:
        self.data, self.tokenizer, self.settings = data, tokenizer, settings
        changed = (data.scenes[:, 1:] != data.scenes[:, :-1]).any(-1)
        self.constant = ~changed.any(-1)  # clips whose scene never changes
        # (clip, first latent of the new scene)
        self.changes = changed.nonzero() + torch.tensor([0, 1])
        self.reverses = torch.isin(data.labels, REVERSE).nonzero()  # (clip, latent)

    def windows(
        self, rng: np.random.Generator, count: int, length: int, one_scene: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random windows: latents [count, length, C, h, w] fp32, labels [count, length], token ids
        [count, N_t].

        Unless all of a window is to be of one scene, CHANGE_SHARE of them end while the scene is
        changing: there the conditioning latent does not give the answer away, and the text must be
        read. The settings' share of them end in reverse."""
        clips, total = self.data.latents.shape[:2]
        choice = np.flatnonzero(self.constant.numpy()) if one_scene else np.arange(clips)
        clip = torch.from_numpy(rng.choice(choice, size=count))
        start = torch.from_numpy(rng.integers(0, total - length + 1, size=count))
        if not one_scene:
            for places, share, spread in (
                (self.reverses, self.settings.reverse_share, 1),
                (self.changes, CHANGE_SHARE, CHANGE_LATENTS),
            ):
                if not len(places):
                    continue
                chosen = torch.from_numpy(rng.random(count) < share)
                other, at = places[torch.from_numpy(rng.integers(len(places), size=count))].unbind(
                    1
                )
                last = (at + torch.from_numpy(rng.integers(0, spread, size=count))).clamp(
                    length - 1, total - 1
                )
                clip = torch.where(chosen, other, clip)
                start = torch.where(chosen, last - length + 1, start)
        index = start[:, None] + torch.arange(length)
        tokens = [
            self.tokens(scene, rng) for scene in self.data.scenes[clip, index[:, -1]].tolist()
        ]
        return (
            self.data.latents[clip[:, None], index].float(),
            self.data.labels[clip[:, None], index],
            torch.tensor(tokens),
        )

    def tokens(self, scene: list[int], rng: np.random.Generator) -> list[int]:
        """Token ids of a caption of the scene; now and then of no text, for guidance."""
        if rng.random() < TEXT_DROP:
            return self.tokenizer("")
        return described(self.tokenizer, scene, rng)


def described(tokenizer: CaptionTokenizer, scene: list[int], rng: np.random.Generator) -> list[int]:
    """Token ids of a caption of a scene, given as ids of biome, time and colour."""
    return tokenizer(caption(Scene.of_ids(scene), rng))


def stream_loss(
    model: nn.Module,
    latents: Tensor,
    labels: Tensor,
    tokens: Tensor,
    rng: torch.Generator,
    augment: bool,
) -> Tensor:
    """Squared velocity error per noise group [G] of stage-3 windows of G + 1 latents."""
    made = noised(latents, rng)
    seen = made.latents
    if augment:
        seen = torch.cat([worn(seen[:, :1], rng), seen[:, 1:]], 1)
        labels = late_or_dropped(labels, rng)
    velocity = model(seen, made.timesteps, tokens, labels)
    wanted = made.alphas.sqrt() * made.noise - (1 - made.alphas).sqrt() * latents
    return (velocity - wanted)[:, 1:].square().mean((0, 2, 3, 4))


class Noised(NamedTuple):
    """Windows at the noise levels of a stream: latents and the noise in them [B, G + 1, C, h, w],
    timesteps [B, G + 1] and their alphas [B, G + 1, 1, 1, 1]."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    alphas: Tensor


def noised(latents: Tensor, rng: torch.Generator) -> Noised:
    """True windows [B, G + 1, C, h, w] as a stream has them at a random moment of a phase."""
    batch, groups, device = latents.shape[0], latents.shape[1] - 1, latents.device
    span = TRAIN_STEPS // groups
    offset = torch.randint(0, span, (batch, 1), generator=rng)
    timesteps = torch.cat(
        [torch.zeros_like(offset), *(offset + g * span for g in range(groups))], 1
    ).to(device)
    alphas = alpha_table().float().to(device)[timesteps][:, :, None, None, None]
    noise = torch.randn(latents.shape, generator=rng).to(device)
    return Noised(alphas.sqrt() * latents + (1 - alphas).sqrt() * noise, noise, timesteps, alphas)


def worn(conditioning: Tensor, rng: torch.Generator) -> Tensor:
    """Conditioning latents [B, 1, C, h, w] as a long stream might have left them: noisier, softer,
    off in colour.

    Some carry a trace of another scene: only the text tells which of the two is meant, so the text
    comes to be read, and a stream that has strayed is pulled back to its prompt.
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng).to(conditioning.device)

    batch, _, channels, height, width = conditioning.shape
    soft = F.avg_pool2d(F.pad(conditioning.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1)[
        :, None
    ]
    blur = (draw(batch, 1, 1, 1, 1) - 0.8).clamp(min=0) * 2
    spread = 0.2 * draw(batch, 1, 1, 1, 1).square() * (draw(batch, 1, 1, 1, 1) < 0.7)
    shift = 0.12 * (draw(batch, 1, 1, 1, 1) < 0.3)
    noise = torch.randn(conditioning.shape, generator=rng).to(conditioning.device)
    tint = torch.randn((batch, 1, channels, 1, 1), generator=rng).to(conditioning.device)
    mixed = TRACE * draw(batch, 1, 1, 1, 1) * (draw(batch, 1, 1, 1, 1) < TRACE_SHARE)
    worn = conditioning + mixed * (conditioning.roll(1, 0) - conditioning)
    return worn + blur * (soft - conditioning) + spread * noise + shift * tint


def late_or_dropped(labels: Tensor, rng: torch.Generator) -> Tensor:
    """Labels as a stream with late labels has them (the newest latents are still to get their own),
    or none at all."""
    batch, length = labels.shape
    # the last one that has its own
    known = torch.randint(1, length - 1, (batch, 1), generator=rng).to(labels.device)
    late = labels.gather(
        1, torch.arange(length, device=labels.device).expand(batch, -1).clamp(max=known)
    )
    late = torch.where(
        (torch.rand((batch, 1), generator=rng) < LATE_SHARE).to(labels.device), late, labels
    )
    dropped = (torch.rand((batch, 1), generator=rng) < CONTROL_DROP).to(labels.device)
    return torch.where(dropped, torch.full_like(late, NULL_ID), late)


def clip_loss(
    model: nn.Module, latents: Tensor, labels: Tensor, tokens: Tensor, rng: torch.Generator
) -> Tensor:
    """Squared velocity error of stage-2 clips: one noise level for all latents."""
    batch, device = latents.shape[0], latents.device
    timesteps = (
        torch.randint(0, TRAIN_STEPS, (batch, 1), generator=rng)
        .expand(-1, latents.shape[1])
        .to(device)
    )
    level = alpha_table().float().to(device)[timesteps][:, :, None, None, None]
    noise = torch.randn(latents.shape, generator=rng).to(device)
    velocity = model(level.sqrt() * latents + (1 - level).sqrt() * noise, timesteps, tokens, labels)
    return (velocity - (level.sqrt() * noise - (1 - level).sqrt() * latents)).square().mean()


def build(settings: TrainSettings, group: SequenceGroup = SINGLE) -> tuple[WorldModel, Run]:
    """The model and its run, resumed if there is something to resume."""
    text.train(settings)  # draws numbers of its own, if it still has to be done
    torch.manual_seed(settings.seed)
    model = WorldModel(settings).to(pick_device(settings.device))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = Optimiser(
        parameters,
        is_muon,
        muon_rate=settings.diffusion_muon_rate,
        adam_rate=settings.diffusion_adam_rate,
        group=group,
    )
    return model, Run(
        Path(settings.work) / "diffusion",
        model,
        optimiser,
        Average(parameters, settings.average_decay),
    )


def prepare(settings: TrainSettings) -> None:
    """Text encoder and latents, made where they are missing."""
    device = pick_device(settings.device)
    text.train(settings)
    vae = autoencoder.trained(settings).to(device)
    for held_out in (False, True):
        encode(vae, settings, device, held_out)


def train(
    settings: TrainSettings, group: SequenceGroup = SINGLE, minutes: float | None = None
) -> bool:
    """Trains until the settings' steps are done (True) or the minutes are over (False)."""
    device = pick_device(settings.device)
    vae = autoencoder.trained(settings).to(device)
    words = text.tokenizer(settings)
    batches, others = (
        Batches(encode(vae, settings, device, held_out), words, settings)
        for held_out in (False, True)
    )
    model, run = build(settings, group)
    share = max(1, settings.diffusion_windows // group.size)
    return run.train(
        settings.diffusion_steps,
        lambda step, sample: step_loss(model, batches, step, sample, share),
        minutes=minutes,
        title="diffusion",
        check=lambda: held_out_errors(model, others),
        check_every=400,
    )


def step_loss(
    model: WorldModel, batches: Batches, step: int, sample: int, share: int
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step: `share` windows, or now and then as much of a stage-2 clip."""
    settings, device = batches.settings, model.control.weight.device
    window, every = settings.noise_groups + 1, settings.clip_every
    seed = settings.seed, 3, sample
    rng, torch_rng = np.random.default_rng(seed), generator(*seed)
    if every and step % every == every - 1:
        length = CLIP_LENGTHS[step // every % len(CLIP_LENGTHS)]
        drawn = batches.windows(rng, max(1, share * window // length), length, one_scene=True)
        latents, labels, tokens = (x.to(device) for x in drawn)
        return clip_loss(model, latents, labels, tokens, torch_rng), {}
    latents, labels, tokens = stream_windows(model, batches, rng, torch_rng, share)
    groups = stream_loss(model, latents, labels, tokens, torch_rng, augment=True)
    return groups.mean(), {f"group{g}": float(e) for g, e in enumerate(groups.detach())}


def stream_windows(
    model: WorldModel,
    batches: Batches,
    rng: np.random.Generator,
    torch_rng: torch.Generator,
    share: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`share` windows of G + 1 latents with their labels and tokens, as `Batches.windows`. Some of
    them (`own_share`) begin with what the model expects there, given the latents before."""
    settings, device = batches.settings, model.control.weight.device
    window, own = settings.noise_groups + 1, round(share * settings.own_share)
    lead = settings.noise_groups if own else 0  # latents before: with the first, a window too
    latents, labels, tokens = (x.to(device) for x in batches.windows(rng, share, window + lead))
    if own:
        before = slice(0, own), slice(0, window)
        expected = foreseen(model, latents[before], labels[before], tokens[:own], torch_rng)
        latents[:own, lead] = expected
    return latents[:, lead:], labels[:, lead:], tokens


@torch.no_grad()
def foreseen(
    model: nn.Module, latents: Tensor, labels: Tensor, tokens: Tensor, rng: torch.Generator
) -> Tensor:
    """What the model itself expects the last latent of windows to be: [B, C, h, w].

    The noisier the level that is drawn, the more of it is a mean. A stream goes on from such
    latents, so one that has only ever begun at true ones dreams ever softer pictures."""
    made = noised(latents, rng)
    velocity = model(made.latents, made.timesteps, tokens, labels)[:, -1]
    alphas = made.alphas[:, -1]
    return alphas.sqrt() * made.latents[:, -1] - (1 - alphas).sqrt() * velocity


@torch.no_grad()
def held_out_errors(model: WorldModel, held_out: Batches) -> dict[str, float]:
    """Errors on held-out windows, and with left and right swapped: how much the labels matter."""
    rng, device = np.random.default_rng(5), model.control.weight.device
    drawn = held_out.windows(rng, 96, held_out.settings.noise_groups + 1)
    latents, labels, tokens = (x.to(device) for x in drawn)
    found = [
        stream_loss(model, latents, wanted, tokens, generator(5), augment=False)
        for wanted in (labels, MIRRORED.to(device)[labels])
    ]
    return {
        **{f"group{g}": float(e) for g, e in enumerate(found[0])},
        "error": float(found[0].mean()),
        "swapped": float(found[1].mean()),
    }


def trained(settings: TrainSettings) -> WorldModel:
    """The model of the run with its averaged weights."""
    model, run = build(settings)
    model.load_state_dict(run.average.values, strict=False)
    return model.eval()

"""Trains the tiny video autoencoder on rendered clips; everything else is trained on its latents.

While it trains, latents pass through a per-channel normalisation with slowly moving mean and
deviation, so the decoder and the world only ever see latents of unit deviation. `folded` moves the
constants into the encoder's last convolution: the published layout knows one scaling factor only,
and it is 1 here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from models.device import mixed_precision, pick_device
from models.engines.serve import served_stream
from models.parallel import SINGLE, SequenceGroup
from models.tae import DECODER_FIRST, ENCODER_FIRST, ENCODER_LAST, TinyVAE, TinyVAEConfig
from training.clips import HELD_OUT_SEED, Recording, read_shard, render
from training.growing import all_grown, finer_patches
from training.optimise import Average, Optimiser
from training.run import WEIGHTS, Run, generator, part, read_state, started
from training.settings import TrainSettings, widths

# of the latents' deviation, while training: the world's latents carry the noise of level t = 0
# (0.0505)
NOISE = 0.06
MOMENTUM = 0.02  # of the moving mean and variance
PENALTY = 3e-4


class NormalisedVAE(nn.Module):
    """The autoencoder and the statistics of its latents."""

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, config: TinyVAEConfig, group: SequenceGroup = SINGLE) -> None:
        super().__init__()
        self.vae, self.group = TinyVAE(config), group
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("variance", torch.ones(config.latent_channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def encode(self, video: Tensor) -> Tensor:
        """[B, n, 3, H, W] in [-1, 1] -> normalised latents [B, n / 4, C, h, w]."""
        latents = self.vae.encode(video).float()
        if self.training:
            with torch.no_grad():
                momentum = max(MOMENTUM, 1 / (1 + int(self.batches)))
                self.mean.lerp_(self._shared(latents.mean((0, 1, 3, 4))), momentum)
                square = (latents - self.mean[:, None, None]).square().mean((0, 1, 3, 4))
                self.variance.lerp_(self._shared(square), momentum)
                self.batches += 1
        return (latents - self.mean[:, None, None]) / self.variance.sqrt()[:, None, None]

    def _shared(self, statistic: Tensor) -> Tensor:
        return self.group.all_reduce_sum(statistic) / self.group.size

    def loss(self, video: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Of a video [B, 4 n, 3, H, W], decoded with a little noise on its latents; they are pulled
        weakly to zero."""
        with mixed_precision(video.device):
            latents = self.encode(video)
        noise = torch.randn(latents.shape, generator=rng).to(latents)
        loss, figures = self.decoding_loss(latents + NOISE * noise, video)
        figures["deviation"] = float(latents.detach().std())
        return loss + PENALTY * latents.square().mean(), figures

    def decoding_loss(self, latents: Tensor, video: Tensor) -> tuple[Tensor, dict[str, float]]:
        """`distance` of normalised latents, decoded, from the video."""
        return distance(self.decode(latents), video)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, n, C, h, w] -> video [B, 4 n, 3, H, W], about [-1, 1]."""
        with mixed_precision(latents.device):
            return self.vae.reconstruct(latents).float()


def distance(made: Tensor, video: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Of videos [B, n, 3, H, W] in [-1, 1]: absolute and squared error, error of the picture's
    gradients in space and time.

    Squared in time: where a motion is not quite certain, the absolute error is least for frames
    that stand still."""
    error = made - video
    squared = error.square().mean()
    absolute = error.abs().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    motion = error.diff(dim=1).square().mean()
    loss = absolute + edges + 8 * (squared + motion)
    return loss, {"psnr": 10 * math.log10(4 / float(squared.detach()))}


def folded(vae: TinyVAE, mean: Tensor, variance: Tensor) -> TinyVAE:
    """In place: the encoder's last convolution gives normalised latents from now on."""
    last = vae.encoder[ENCODER_LAST]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight.div_(variance.sqrt()[:, None, None, None])
        last.bias.sub_(mean).div_(variance.sqrt())
    return vae


def to_video(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [..., H, W, 3] -> [-1, 1] [..., 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float().div(127.5).sub(1)


def progress(items: list[Path], title: str) -> tqdm[Path]:
    return tqdm(items, desc=title, unit="shard", mininterval=2)


def shards(settings: TrainSettings, held_out: bool = False) -> list[Path]:
    """Where the shards of training or of held-out clips are, or will be."""
    folder = Path(settings.work) / ("held_out" if held_out else "train")
    count = settings.held_out_shards if held_out else settings.shards
    return [folder / f"{k:04d}.npz" for k in range(count)]


def frames_kept(settings: TrainSettings, held_out: bool = False) -> list[Path]:
    """The shards whose frames are needed beyond their latents."""
    every = shards(settings, held_out)
    if not settings.pixel_shards:
        return every
    return [] if held_out else every[: settings.pixel_shards]


def record(
    settings: TrainSettings,
    paths: Sequence[Path],
    held_out: bool = False,
    minutes: float | None = None,
) -> bool:
    """Renders those of the shards that are missing; False when the minutes were over first."""
    first = HELD_OUT_SEED if held_out else 0
    how = Recording(
        settings.clip_latents, settings.view, settings.road_share, settings.shard_clips, first
    )
    return render(paths, how, settings.processes, minutes)


def data(settings: TrainSettings) -> list[Path]:
    """The shards whose frames are trained on, rendered where they are missing."""
    kept = frames_kept(settings)
    record(settings, kept)
    return kept


def is_muon(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) > 12


def load_what_fits(vae: TinyVAE, tensors: dict[str, Tensor]) -> None:
    """Loads trained weights; where the decoder is to have other widths, its layers start afresh.
    Larger patches and more latent channels are grown into (`training.growing`).

    The encoder has to fit: its latents are what everything else was trained on. Raises UserError
    where it does not."""
    tensors = _at_both_ends(vae, tensors)
    fresh = _misfits(vae, tensors)
    if wrong := [name for name in fresh if name.startswith("encoder.")]:
        raise UserError(
            "start: the trained encoder has other widths than encoder_widths says "
            f"(tensor {wrong[0]})"
        )
    vae.load_state_dict(
        {name: tensor for name, tensor in tensors.items() if name not in fresh}, strict=False
    )


def _at_both_ends(vae: TinyVAE, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Trained weights with the patches and the latent channels of this autoencoder."""
    own, first = vae.state_dict(), f"encoder.{ENCODER_FIRST}.weight"
    finer, left = divmod(own[first].shape[1], tensors[first].shape[1])
    if not left and finer > 1:
        tensors = finer_patches(tensors, math.isqrt(finer))
    latent = [f"encoder.{ENCODER_LAST}.weight", f"encoder.{ENCODER_LAST}.bias"]
    if vae.config.decoder_widths[0] == len(tensors[f"decoder.{DECODER_FIRST}.bias"]):
        latent.append(f"decoder.{DECODER_FIRST}.weight")
    return tensors | all_grown(own, {name: tensors[name] for name in latent})


def _misfits(vae: TinyVAE, tensors: dict[str, Tensor]) -> set[str]:
    own = vae.state_dict()
    return {name for name in own if name not in tensors or tensors[name].shape != own[name].shape}


def build(settings: TrainSettings, group: SequenceGroup = SINGLE) -> tuple[NormalisedVAE, Run]:
    """The autoencoder and its run, resumed if there is something to resume."""
    torch.manual_seed(settings.seed)
    config = TinyVAEConfig(
        widths("encoder_widths", settings.encoder_widths),
        widths("decoder_widths", settings.decoder_widths),
        settings.latent_channels,
        residual_shortcuts=True,
        patch_size=settings.scale,
    )
    model = NormalisedVAE(config, group).to(pick_device(settings.device))
    if settings.start:
        load_what_fits(model.vae, started(settings, f"vae/{WEIGHTS}"))
    parameters = dict(model.named_parameters())
    optimiser = Optimiser(
        parameters,
        is_muon,
        muon_rate=settings.autoencoder_muon_rate,
        adam_rate=settings.autoencoder_adam_rate,
        adam_betas=(0.9, 0.98),
        group=group,
    )
    return model, Run(
        Path(settings.work) / "autoencoder", model, optimiser, Average(parameters, 0.995)
    )


def train(
    settings: TrainSettings, group: SequenceGroup = SINGLE, minutes: float | None = None
) -> bool:
    """Trains until the settings' steps are done (True) or the minutes are over (False)."""
    model, run = build(settings, group)
    clips = Clips(settings, group)

    def loss_of(step: int, sample: int) -> tuple[Tensor, dict[str, float]]:
        latents = 2 if step < settings.autoencoder_steps // 2 else 4  # later also longer memories
        return model.loss(clips.draw(sample, latents).video, generator(settings.seed, sample))

    return run.train(settings.autoencoder_steps, loss_of, minutes=minutes, title="autoencoder")


@dataclass(frozen=True)
class ClipBatch:
    """Pieces of clips: video [B, 4 n, 3, H, W] in [-1, 1]; per latent its label id [B, n] and scene
    ids [B, n, 3]."""

    video: Tensor
    labels: Tensor
    scenes: Tensor


class Clips:
    """This rank's share of the rendered clips, in memory."""

    def __init__(self, settings: TrainSettings, group: SequenceGroup) -> None:
        shards = [read_shard(path) for path in data(settings)[group.rank :: group.size]]
        self.clips = [
            clip
            for shard in shards
            for clip in zip(shard["frames"], shard["labels"], shard["scenes"])
        ]
        self.seed, self.latents = settings.seed, settings.autoencoder_latents // group.size
        self.device = pick_device(settings.device)

    def draw(self, sample: int, latents: int) -> ClipBatch:
        """As many pieces of `latents` latents as make up a step's share (at least one)."""
        rng = np.random.default_rng((self.seed, sample))
        video, labels, scenes = [], [], []
        for clip in rng.integers(len(self.clips), size=max(1, self.latents // latents)):
            frames, names, worlds = self.clips[clip]
            start = int(rng.integers(0, len(names) - latents + 1))
            video.append(frames[start * FRAMES_PER_LATENT : (start + latents) * FRAMES_PER_LATENT])
            labels.append(names[start : start + latents])
            scenes.append(worlds[start : start + latents])
        ids = (torch.from_numpy(np.stack(kind)).long() for kind in (labels, scenes))
        return ClipBatch(to_video(np.stack(video)).to(self.device), *ids)


def trained(settings: TrainSettings) -> TinyVAE:
    """The autoencoder of the runs, its decoder from its own run if there is one, normalisation
    folded in.

    Last weights, not averaged ones: Muon turns the kernels so far that an average over 200 steps
    means nothing until the rate has almost ended (15 dB against 25 dB two thirds through). Raises
    UserError for layers that are of other widths than those of the weights it goes on from, and
    were not trained since.
    """
    model, run = build(settings)
    if ((own := Path(settings.work) / "decoder") / "run.json").exists():
        model.vae.decoder.load_state_dict(part(read_state(own)[1], "module.decoder."))
    elif (
        settings.start and not run.step and _misfits(model.vae, started(settings, f"vae/{WEIGHTS}"))
    ):
        raise UserError(
            f"decoder_widths: {settings.start} has others; "
            "run the stage decoder first, which trains them"
        )
    return folded(model.vae, model.mean, model.variance).eval()


@torch.no_grad()
def reconstruction_psnr(
    vae: TinyVAE, clips: npt.NDArray[np.uint8], chunk: int = 12
) -> npt.NDArray[np.float64]:
    """PSNR in dB of every clip [n, frames, H, W, 3], encoded and decoded whole, `chunk` latents at
    a time."""
    values = []
    for clip in clips:
        video = to_video(clip)
        latents = torch.cat(
            [vae.encode(part[None]) for part in video.split(chunk * FRAMES_PER_LATENT)], 1
        )
        made = torch.from_numpy(served_stream(vae).push(latents[0] * vae.scaling_factor)).float()
        values.append(
            10 * math.log10(255**2 / float((made - torch.from_numpy(clip).float()).square().mean()))
        )
    return np.array(values)

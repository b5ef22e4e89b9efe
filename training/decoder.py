"""Goes on with the autoencoder's decoder alone: latents stay what they are, so nothing trained on them is lost.

Once there is a distilled student (of the recipe, or of the weights it goes on from), the decoder also learns from
latents as the student makes them (every latent dreamed in one call from the true one before it), towards the frames
that were there. A dreamed latent is a little softer than an encoded one, and a decoder that knows only the latter shows
motion in jerks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.parallel import SequenceGroup
from training import autoencoder, diffusion, distill, text
from training.autoencoder import SINGLE, Clips, NormalisedVAE
from training.captions import Tokenizer, caption
from training.diffusion import WorldModel
from training.driving_world import Scene
from training.optimise import Average, Optimiser
from training.run import Run, generator
from training.scenery import BIOMES, COLOURS, TIMES
from training.settings import TrainSettings

PIECE = 4  # latents of an encoded piece; a dreamed one has the one before and the noisier ones after it too


def build(settings: TrainSettings, group: SequenceGroup = SINGLE) -> tuple[NormalisedVAE, Run]:
    """The trained autoencoder with everything frozen but its decoder, and the decoder's own run."""
    model, _ = autoencoder.build(settings, group)
    model.eval().requires_grad_(False)
    model.vae.decoder.requires_grad_(True)
    parameters = dict(model.vae.decoder.named_parameters())
    optimiser = Optimiser(
        parameters,
        autoencoder.is_muon,
        muon_rate=settings.decoder_muon_rate,
        adam_rate=settings.decoder_adam_rate,
        adam_betas=(0.9, 0.98),
        group=group,
    )
    return model, Run(Path(settings.work) / "decoder", model.vae.decoder, optimiser, Average(parameters, 0.99))


def train(settings: TrainSettings, group: SequenceGroup = SINGLE, minutes: float | None = None) -> bool:
    """Trains until the settings' steps are done (True) or the minutes are over (False)."""
    model, run = build(settings, group)
    clips = Clips(settings, group)
    dreamer = Dreamer(settings) if distill.has_run(settings) or settings.start else None

    def loss_of(step: int, sample: int) -> tuple[Tensor, dict[str, float]]:
        rng = generator(settings.seed, 1, sample)
        dreamed = dreamer is not None and step % 2 == 1
        piece = clips.draw(sample, PIECE + settings.noise_groups if dreamed else PIECE)
        if dreamer is None or not dreamed:
            return model.loss(piece.video, rng)
        with torch.no_grad():
            latents = model.encode(piece.video)
            latents[:, 1 : 1 + PIECE] = dreamer.dream(latents, piece, rng)
        loss, figures = model.decoding_loss(latents, piece.video)
        return loss, {"dreamed_psnr": figures["psnr"]}

    return run.train(settings.decoder_steps, loss_of, minutes=minutes, title="decoder")


class Dreamer:
    """The student, asked for one latent at a time."""

    def __init__(self, settings: TrainSettings) -> None:
        self.student: WorldModel = diffusion.trained(settings)
        self.student.transformer = distill.trained(settings)
        self.tokenizer: Tokenizer = text.tokenizer(settings)
        self.row = distill.timestep_row(settings.noise_groups)

    @torch.no_grad()
    def dream(self, latents: Tensor, piece: autoencoder.Piece, rng: torch.Generator) -> Tensor:
        """Latents [B, n, C, h, w] of a piece -> [B, n - G, C, h, w]: all but the first as the student would emit them.

        Each comes from a window of the true latents that begins with the one before it, under its own label, which a
        stream with late labels gives to the newer ones of the window too. G = noise groups.
        """
        groups, batch = len(self.row) - 1, len(latents)
        count = latents.shape[1] - groups
        index = torch.arange(count)[:, None] + torch.arange(groups + 1)
        windows = latents[:, index].flatten(0, 1)
        labels = piece.labels[:, index].clone()
        labels[..., 1:] = labels[..., 1:2]
        signal, spread = (column.to(latents) for column in distill.signal_and_spread(self.row))
        noise = torch.randn(windows.shape, generator=rng).to(latents)
        tokens = self._tokens(piece.scenes[:, index[:, 1]].flatten(0, 1)).to(latents.device)
        window = signal * windows + spread * noise
        ends, _ = distill.one_call(self.student, window, tokens, labels.flatten(0, 1).to(latents.device))
        return ends[:, 0].unflatten(0, (batch, count))

    def _tokens(self, scenes: Tensor) -> Tensor:
        """Scene ids [n, 3] -> token ids [n, N_t] of a caption each."""
        rng = np.random.default_rng(int(scenes.sum()))
        captions = [caption(Scene(BIOMES[b], TIMES[t], COLOURS[c]), rng) for b, t, c in scenes.tolist()]
        return torch.tensor([self.tokenizer(words) for words in captions])

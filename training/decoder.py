"""Goes on with the autoencoder's decoder alone: latents stay what they are, so nothing trained on
them is lost.

Once there is a distilled student (of the recipe, or of the weights it goes on from), the decoder
also learns from latents as the student makes them (every latent dreamed in one call from the true
one before it), towards the frames that were there. A dreamed latent is a little softer than an
encoded one, and a decoder that knows only the latter shows motion in jerks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.device import pick_device
from models.parallel import SINGLE, SequenceGroup
from models.tae import DECODER_LAST
from training import autoencoder, diffusion, distill, text
from training.adversary import Judge, balance, judge_loss, wishes
from training.autoencoder import NOISE, Clips, NormalisedVAE, distance
from training.captions import CaptionTokenizer
from training.diffusion import WorldModel
from training.optimise import Average, Optimiser
from training.run import Run, generator
from training.settings import TrainSettings

# latents of an encoded piece; a dreamed one has the one before and the noisier ones after it too
PIECE = 4


class Contest(nn.Module):
    """The decoder, and who judges its frames (nobody where the settings give a judge no weight)."""

    def __init__(self, decoder: nn.Module, settings: TrainSettings) -> None:
        super().__init__()
        self.decoder = decoder
        self.judge = Judge.of_frames() if settings.decoder_judge else None
        self.weights = settings.decoder_judge, settings.decoder_features

    def loss(self, made: Tensor, video: Tensor, last: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Of decoded videos [B, n, 3, H, W] in [-1, 1]; last: the weights of the decoder's last
        layer. The judge learns from the same loss."""
        loss, figures = distance(made, video)
        if self.judge is None:
            return loss, figures
        frames, true = made.flatten(0, 1), video.flatten(0, 1)
        wish, features = wishes(self.judge, frames, true)
        judged = judge_loss(self.judge, frames, true)
        figures |= {"judge": float(judged.detach()), "features": float(features.detach())}
        weight, of_features = self.weights
        wanted = weight * balance(loss, wish, last) * wish + of_features * features
        return loss + wanted + judged, figures


def build(
    settings: TrainSettings, group: SequenceGroup = SINGLE
) -> tuple[NormalisedVAE, Contest, Run]:
    """The trained autoencoder with everything frozen but its decoder, its judge, and their run."""
    model, _ = autoencoder.build(settings, group)
    model.eval().requires_grad_(False)
    model.vae.decoder.requires_grad_(True)
    contest = Contest(model.vae.decoder, settings).to(pick_device(settings.device))
    parameters = dict(contest.named_parameters())
    optimiser = Optimiser(
        parameters,
        lambda name, p: name.startswith("decoder.") and autoencoder.is_muon(name, p),
        muon_rate=settings.decoder_muon_rate,
        adam_rate=settings.decoder_adam_rate,
        adam_betas=(0.9, 0.98),
        group=group,
    )
    folder = Path(settings.work) / "decoder"
    return model, contest, Run(folder, contest, optimiser, Average(parameters, 0.99))


def train(
    settings: TrainSettings, group: SequenceGroup = SINGLE, minutes: float | None = None
) -> bool:
    """Trains until the settings' steps are done (True) or the minutes are over (False)."""
    model, contest, run = build(settings, group)
    clips = Clips(settings, group)
    dreamer = Dreamer(settings) if distill.exists(settings) else None
    last = model.vae.get_parameter(f"decoder.{DECODER_LAST}.weight")

    def loss_of(step: int, sample: int) -> tuple[Tensor, dict[str, float]]:
        rng = generator(settings.seed, 1, sample)
        dreamed = dreamer is not None and step % 2 == 1
        piece = clips.draw(sample, PIECE + settings.noise_groups if dreamed else PIECE)
        with torch.no_grad():
            latents = model.encode(piece.video)
            if dreamer is not None and dreamed:
                latents[:, 1 : 1 + PIECE] = dreamer.dream(latents, piece, rng)
            else:
                latents += NOISE * torch.randn(latents.shape, generator=rng).to(latents)
        loss, figures = contest.loss(model.decode(latents), piece.video, last)
        return loss, {f"dreamed_{k}": v for k, v in figures.items()} if dreamed else figures

    return run.train(settings.decoder_steps, loss_of, minutes=minutes, title="decoder")


class Dreamer:
    """The student, asked for one latent at a time."""

    def __init__(self, settings: TrainSettings) -> None:
        self.student: WorldModel = diffusion.trained(settings)
        self.student.transformer = distill.trained(settings)
        self.tokenizer: CaptionTokenizer = text.tokenizer(settings)
        self.groups, self.late_labels = settings.noise_groups, settings.late_labels

    @torch.no_grad()
    def dream(self, latents: Tensor, piece: autoencoder.ClipBatch, rng: torch.Generator) -> Tensor:
        """Latents [B, n, C, h, w] of a piece -> [B, n - G, C, h, w]: all but the first as the
        student would emit them.

        Each comes from a window of G + 1 true latents (G = noise groups) that begins with the one
        before it. As in a stream with b late labels, the newest b of the window have the label of
        the oldest among them."""
        count = latents.shape[1] - self.groups
        # [count, G + 1] places in the piece
        window = torch.arange(count)[:, None] + torch.arange(self.groups + 1)
        labels = piece.labels[:, window].flatten(0, 1)
        labels[:, -self.late_labels :] = labels[:, -self.late_labels, None]
        ends, _ = distill.one_call(
            self.student,
            distill.noised(
                latents[:, window].flatten(0, 1), distill.timestep_row(self.groups), rng
            ),
            self._tokens(piece.scenes[:, window[:, 1]].flatten(0, 1), rng).to(latents.device),
            labels.to(latents.device),
        )
        return ends[:, 0].unflatten(0, (len(latents), count))

    def _tokens(self, scenes: Tensor, rng: torch.Generator) -> Tensor:
        """Scene ids [n, 3] -> token ids [n, N_t] of a caption each."""
        words = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))
        return torch.tensor(
            [diffusion.described(self.tokenizer, scene, words) for scene in scenes.tolist()]
        )

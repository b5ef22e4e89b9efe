"""Sharpness is a distribution, not a mean: a judge of patches makes the decoder draw, and one of
latents makes the student dream, what looks true.

The judge tells the simulator's frames from decoded ones, patch by patch (PatchGAN, Isola et al.,
arXiv 1611.07004), by the hinge loss; the decoder wants to be taken for true, and to have the judge's
features of the true frame (Wang et al., arXiv 1711.11585). How much its wish counts follows from the
gradients at the decoder's last layer (VQGAN, Esser et al., arXiv 2012.09841).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from models.controls import LABELS

WIDTHS = (24, 48, 64)  # channels after each halving
LATENT_WIDTHS = (96, 96, 96)  # of a latent judge: each score sees 7 x 7 cells
LEAST, MOST = 1e-4, 20.0  # of the balance of gradients


class Judge(nn.Module):
    """Pictures [n, C, H, W] -> scores of patches [n, 1, h, w], high for true ones; and the features
    on the way."""

    def __init__(self, convolutions: Iterable[nn.Conv2d]) -> None:
        """The last one scores."""
        super().__init__()
        *layers, last = (spectral_norm(each) for each in convolutions)
        self.layers = nn.ModuleList(layers)
        self.last = last

    @staticmethod
    def of_frames() -> Judge:
        """Frames [n, 3, H, W] in [-1, 1] -> scores [n, 1, H / 8, W / 8]."""
        halvings = (
            nn.Conv2d(before, width, 4, stride=2, padding=1)
            for before, width in pairwise((3, *WIDTHS))
        )
        score = (nn.Conv2d(width, 1, 3, padding=1) for width in WIDTHS[-1:])
        return Judge(chain(halvings, score))

    @staticmethod
    def of_latents(channels: int) -> Judge:
        """Inputs of `judged_steps` -> scores [n, 1, h, w]. It sees a latent, the one before it and
        the key that was held, so that it judges a step and not a picture. Far cheaper than judging
        pixels (LADD, Sauer et al., arXiv 2403.12015)."""
        widths = (2 * channels + len(LABELS) + 1, *LATENT_WIDTHS)
        steps = (nn.Conv2d(before, width, 3, padding=1) for before, width in pairwise(widths))
        score = (nn.Conv2d(width, 1, 1) for width in LATENT_WIDTHS[-1:])
        return Judge(chain(steps, score))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            pictures = F.leaky_relu(layer(pictures), 0.2)
            features.append(pictures)
        return self.last(pictures), features


def judged_steps(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """What a latent judge looks at: latents before and after [n, C, h, w], label ids [n] of the
    latter -> [n, 2 C + 10, h, w]."""
    keys = F.one_hot(labels, len(LABELS) + 1).to(after)[:, :, None, None]
    return torch.cat([before, after, keys.expand(-1, -1, *after.shape[2:])], 1)


def judge_loss(judge: Judge, made: Tensor, true: Tensor) -> Tensor:
    """Hinge loss of the judge on frames [n, 3, H, W]: 2 when it knows nothing, 0 at best."""
    return F.relu(1 - judge(true)[0]).mean() + F.relu(1 + judge(made.detach())[0]).mean()


def wishes(judge: Judge, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder wants of its frames, by a judge that does not learn from it: to be taken for
    true, and true features."""
    scores, features = _unmoved(judge, made)
    with torch.no_grad():
        wanted = _unmoved(judge, true)[1]
    distances = [(a - b).abs().mean() for a, b in zip(features, wanted, strict=True)]
    return -scores.mean(), torch.stack(distances).mean()


def wish(judge: Judge, made: Tensor) -> Tensor:
    """To be taken for true, by a judge that does not learn from it."""
    return -_unmoved(judge, made)[0].mean()


def _unmoved(judge: Judge, made: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a judge says, without a gradient for the judge."""
    frozen = {name: tensor.detach() for name, tensor in judge.named_parameters()}
    scores, features = functional_call(judge, frozen, made)
    return scores, features


def balance(loss: Tensor, wish: Tensor, last: Tensor) -> Tensor:
    """How much a wish has to count to move the decoder's last layer as much as its loss does."""
    of_loss, of_wish = (
        torch.autograd.grad(value, last, retain_graph=True)[0].norm() for value in (loss, wish)
    )
    return (of_loss / (of_wish + LEAST)).clamp(max=MOST).detach()

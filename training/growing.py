"""Going on from weights of a smaller world: more latent channels, a larger patch of pixels, or
finer tokens.

A grown network begins as the small one, seen coarsely: what it knows of old channels stays, what
reads new ones is zero, what makes new ones is as a fresh network has it. It then learns the rest in
a fraction of the steps that it would need from nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from configs.errors import UserError
from models.tae import DECODER_LAST, ENCODER_FIRST

# what of a transformer reads the latent pixels of a token, and what says them
TOKEN_IN, TOKEN_OUT = "patch_embed.proj.weight", "proj_out"


def grown(fresh: Tensor, old: Tensor) -> Tensor:
    """A tensor of `fresh`'s shape, at least as large as `old` in every dimension: the old values in
    its first corner, zeros in the new columns of old rows, fresh values in the new rows.

    Raises ValueError where it would have to shrink."""
    if fresh.ndim != old.ndim or any(new < was for new, was in zip(fresh.shape, old.shape)):
        raise ValueError(f"cannot grow {list(old.shape)} into {list(fresh.shape)}")
    made = fresh.clone()
    made[: len(old)] = 0
    made[tuple(slice(size) for size in old.shape)] = old.to(made)
    return made


def finer_patches(tensors: Mapping[str, Tensor], patch: int) -> dict[str, Tensor]:
    """An autoencoder's tensors for patches of patch x patch pixels in place of one pixel: the
    encoder sees a patch's mean, the decoder paints a patch evenly."""
    made = dict(tensors)
    first, last = f"encoder.{ENCODER_FIRST}.weight", f"decoder.{DECODER_LAST}"
    made[first] = made[first].repeat_interleave(patch**2, 1) / patch**2
    for name in (f"{last}.weight", f"{last}.bias"):
        made[name] = made[name].repeat_interleave(patch**2, 0)
    return made


def finer_tokens(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's tensors for tokens of one latent pixel in place of p x p: a token reads its
    pixel as if its neighbours were alike, and says of it what they said on average. Its places are
    to be counted in old tokens (`spatial_interpolation_scale`)."""
    made, patch = dict(tensors), tensors[TOKEN_IN].shape[-1]
    made[TOKEN_IN] = made[TOKEN_IN].sum((2, 3), keepdim=True)
    for name in (f"{TOKEN_OUT}.weight", f"{TOKEN_OUT}.bias"):
        made[name] = made[name].unflatten(0, (-1, patch**2)).mean(1)
    return made


def all_grown(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, each grown to the shape that `own` has for its name.

    Raises UserError for one that would have to shrink."""
    made = {}
    for name, old in tensors.items():
        try:
            made[name] = grown(own[name], old)
        except ValueError as why:
            raise UserError(
                f"start: expected weights of this size or of a smaller one; {name}: {why}"
            ) from None
    return made


def grown_ends(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ends: Collection[str]
) -> dict[str, Tensor]:
    """`tensors` with those called `ends` grown; the others have to be as they are in `own`: inside a
    network a wider tensor is cut into heads or into shift, scale and gate, and means another thing.

    Raises UserError."""
    for name in sorted(own.keys() | tensors.keys()):
        here, there = (list(each[name].shape) if name in each else None for each in (own, tensors))
        if here != there and name not in ends:
            raise UserError(
                "start: expected weights with the heads, head_width, layers and widths of these "
                f"settings; {name} is {there} there, {here} here"
            )
    return all_grown(own, tensors)

"""Attention over a sequence split between ranks, and the control attention's closed form.

Legend: B batch, n tokens of this rank, H heads, d head width, D width, F latents in the window, S
tokens per latent."""

import itertools
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from models.device import has_bfloat16
from models.parallel import SequenceGroup

LONG: Final = 1000  # tokens from which plain bfloat16 products beat PyTorch's kernel on a CPU
PIECE: Final = 2**21  # scores held at a time: 16 MB in two formats, what caches and pages bear well


def possible_degrees(heads: int, tokens: int) -> list[int]:
    """Return the group sizes that can share `heads` heads and `tokens` tokens per latent (stripes
    may be uneven)."""
    return [size for size in range(1, heads + 1) if heads % size == 0 and size <= tokens]


def check_degree(size: int, heads: int, tokens: int) -> None:
    """Raise UserError, naming the degrees that work, when `size` ranks cannot share this model's
    sequence."""
    possible = possible_degrees(heads, tokens)
    if size not in possible:
        raise UserError(
            f"{size} DiT ranks cannot share {heads} attention heads and {tokens} tokens per latent; "
            f"possible numbers are {', '.join(map(str, possible))}"
        )


def joint_attention(
    q: Tensor, k: Tensor, v: Tensor, group: SequenceGroup, lengths: Sequence[int]
) -> Tensor:
    """Full self-attention over the tokens of all ranks; q, k, v [B, n, H, d] -> [B, n, H, d].

    lengths: every rank's n. Heads are exchanged for sequence and back (Ulysses, docs/reference.md
    section 6); the order of the joined sequence is rank by rank, which attention without mask and
    rotary positions cannot see. A backend's own attention is used where all ranks hold the same
    number of tokens, which is all that it can share."""
    if group.attention is not None and len(set(lengths)) == 1:
        return group.attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(
            1, 2
        )
    if group.size > 1:
        joined = group.all_to_all(torch.stack((q, k, v)), 3, 2, gather_sizes=lengths)
        q, k, v = joined.unbind(0)
    out = self_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    return group.all_to_all(out, 1, 2, scatter_sizes=lengths)


def self_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a mask; q, k, v [B, H, n, d] -> [B, H, n, d]: PyTorch's, but for long
    sequences in bfloat16 on a CPU with units for it, which PyTorch's kernel leaves idle."""
    long = q.shape == k.shape == v.shape and k.shape[2] >= LONG
    plain = not long or q.dtype is not torch.bfloat16 or q.device.type != "cpu"
    if plain or torch.is_grad_enabled() or not has_bfloat16(q.device):
        return F.scaled_dot_product_attention(q, k, v)
    return bfloat16_attention(q, k, v)


def bfloat16_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by matrix products in bfloat16, as exact as PyTorch's kernel; [B, H, n, d].

    A product's scores are rounded to 8 bits; a second one that starts from their negative leaves
    what the rounding took (both add up in fp32), and the softmax sees the sum of the two."""
    batch, heads, tokens, width = q.shape
    out = torch.empty_like(q)
    scale, keys, v = width**-0.5, k.transpose(2, 3).contiguous(), v.contiguous()
    rows = min(tokens, 512, max(1, PIECE // tokens))
    rounded = q.new_empty(rows, tokens)
    exact = q.new_empty(rows, tokens, dtype=torch.float32)
    for b, h, first in itertools.product(range(batch), range(heads), range(0, tokens, rows)):
        piece = q[b, h, first : first + rows]
        scores = rounded[: len(piece)]
        torch.addmm(scores, piece, keys[b, h], beta=0, alpha=scale, out=scores)
        weights = exact[: len(piece)].copy_(scores)
        weights += torch.addmm(scores, piece, keys[b, h], beta=-1, alpha=scale, out=scores)
        scores.copy_(torch.softmax(weights, -1, out=weights))
        out[b, h, first : first + rows] = scores @ v[b, h]
    return out


def control_attention(q: Tensor, k: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attention of video tokens to the F control tokens, summed over heads.

    q [B, F, S, H, d], k [B, F, H, d], values [B, F, H, D] (already through the output projection,
    which is cheaper for F tokens than for F S) -> [B, F, S, D]. With `control_bias` [F, S, F] it
    equals causal attention over every control token repeated S times (docs/reference.md section 2);
    the keys are the same on every rank, so nothing is communicated. The softmax is in fp32 at
    least.
    """
    frames, tokens, heads, width = q.shape[1:]
    # [B, H, F S, F]
    scores = q.flatten(1, 2).transpose(1, 2) @ (k * width**-0.5).permute(0, 2, 3, 1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = torch.softmax(scores + bias.flatten(0, 1), dim=-1).to(values.dtype)
    # [B, F S, H F] @ [B, H F, D]
    out = weights.transpose(1, 2).flatten(2) @ values.transpose(1, 2).flatten(1, 2)
    return out.unflatten(1, (frames, tokens))


def control_bias(frames: int, tokens: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Return [F, stop - start, F] fp32 for tokens start..stop-1 of each of `frames` latents of
    `tokens` tokens.

    Token (f, s) sees all copies of earlier control tokens, s + 1 of its own, none of later ones
    (docs/reference.md section 2): ln(tokens), ln(s + 1), -inf.
    """
    with torch.inference_mode(False):
        frame = torch.arange(frames, device=device)
        own = torch.log(torch.arange(start + 1, stop + 1, device=device, dtype=torch.float64)).view(
            1, -1, 1
        )
        earlier = torch.log(torch.tensor(tokens, device=device, dtype=torch.float64))
        query, key = frame.view(-1, 1, 1), frame.view(1, 1, -1)
        bias = torch.where(key == query, own, torch.where(key < query, earlier, -torch.inf))
        return bias.float()

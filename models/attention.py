"""Attention over a sequence split between ranks, and the control attention's closed form.

Legend: B batch, n tokens of this rank, H heads, d head width, D width, F latents in the window, S
tokens per latent."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from models.parallel import SequenceGroup


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
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    ).transpose(1, 2)
    return group.all_to_all(out, 1, 2, scatter_sizes=lengths)


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

"""The control attention's closed form against the quadratic one, and which degrees can share a
sequence."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError
from models.attention import (
    bfloat16_attention,
    check_degree,
    control_attention,
    control_bias,
    joint_attention,
    possible_degrees,
    self_attention,
)
from models.parallel import SequenceGroup
from tests.ranks import run_ranks


def quadratic(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The published way: every control token repeated once per video token, causal over all of
    them."""
    frames, tokens = q.shape[1:3]
    flat = q.flatten(1, 2).transpose(1, 2)
    keys, values = (x.repeat_interleave(tokens, dim=1).transpose(1, 2) for x in (k, v))
    out = F.scaled_dot_product_attention(flat, keys, values, is_causal=True)
    return out.transpose(1, 2).unflatten(1, (frames, tokens))


def side_by_side(v: Tensor) -> Tensor:
    """Values [B, F, H, d] as an output projection of ones leaves them: [B, F, H, H d], each head in
    its own place."""
    return torch.diag_embed(v.transpose(2, 3)).permute(0, 1, 3, 4, 2).flatten(3)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (1, 6), (3, 54), (5, 24), (17, 7)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-5)])
def test_closed_form_equals_quadratic(
    frames: int, tokens: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(frames * tokens)
    q = 3 * torch.randn(2, frames, tokens, 4, 16, dtype=dtype)
    k, v = (3 * torch.randn(2, frames, 4, 16, dtype=dtype) for _ in range(2))
    ours = control_attention(
        q, k, side_by_side(v), control_bias(frames, tokens, 0, tokens, q.device)
    )
    torch.testing.assert_close(ours, quadratic(q, k, v).flatten(3), atol=tolerance, rtol=tolerance)


def test_a_stripe_of_tokens_needs_no_others() -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(1, 3, 10, 2, 8), torch.randn(1, 3, 2, 8), torch.randn(1, 3, 2, 16)
    whole = control_attention(q, k, v, control_bias(3, 10, 0, 10, q.device))
    stripe = control_attention(q[:, :, 4:7], k, v, control_bias(3, 10, 4, 7, q.device))
    torch.testing.assert_close(stripe, whole[:, :, 4:7])


def test_half_precision_keeps_the_bias() -> None:
    """ln 1350 in bfloat16 would be off by a percent; the softmax is in fp32."""
    torch.manual_seed(2)
    q, k, v = torch.randn(1, 2, 1350, 1, 64), torch.randn(1, 2, 1, 64), torch.randn(1, 2, 1, 64)
    exact = control_attention(q, k, v, control_bias(2, 1350, 0, 1350, q.device))
    bias = control_bias(2, 1350, 0, 1350, q.device)
    ours = control_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), bias)
    assert ours.dtype is torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, atol=0.03, rtol=0.02)


def _shared(group: SequenceGroup) -> float:
    """Self-attention over uneven parts of a sequence against all of it."""
    torch.manual_seed(3)
    q, k, v = torch.randn(3, 2, 17, 6, 8)
    whole = joint_attention(q, k, v, SequenceGroup.single(), [17])
    start, stop = group.slice_bounds(17)
    mine = joint_attention(
        q[:, start:stop], k[:, start:stop], v[:, start:stop], group, group.share_sizes(17)
    )
    return float((mine - whole[:, start:stop]).abs().max())


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_self_attention(size: int) -> None:
    assert max(run_ranks(size, _shared)) < 1e-6


@pytest.mark.parametrize("gain", [1, 3])
def test_products_in_bfloat16_are_as_exact_as_the_kernel(gain: float) -> None:
    """Also where scores are large (up to 45 with a gain of 3), whose rounding alone would be off by
    1.5 %."""
    torch.manual_seed(4)
    q, k = (gain * F.layer_norm(x, (64,)) for x in torch.randn(2, 2, 2, 1100, 64))
    q, k, v = q.bfloat16(), k.bfloat16(), torch.randn(2, 2, 1100, 64).bfloat16()
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    kernel = F.scaled_dot_product_attention(q, k, v)
    ours = bfloat16_attention(q, k, v)
    assert ours.dtype is torch.bfloat16
    assert (ours - exact).norm() < 1.5 * (kernel - exact).norm() < 0.004 * exact.norm()


def test_only_long_sequences_of_a_cpu_with_the_units_take_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.attention.has_bfloat16", lambda device: True)
    torch.manual_seed(5)
    long, short = torch.randn(1, 1, 1000, 64).bfloat16(), torch.randn(1, 1, 999, 64).bfloat16()
    kernel = F.scaled_dot_product_attention
    with torch.no_grad():
        assert self_attention(long, long, long).equal(bfloat16_attention(long, long, long))
        assert self_attention(short, short, short).equal(kernel(short, short, short))
        whole = long.float()
        assert self_attention(whole, whole, whole).equal(kernel(whole, whole, whole))
        # queries of another length, keys shared by heads: the kernel's
        assert self_attention(short, long, long).equal(kernel(short, long, long))
        heads = long.expand(1, 2, -1, -1)
        assert self_attention(heads, long, long).equal(kernel(heads, long, long))
    monkeypatch.setattr("models.attention.has_bfloat16", lambda device: False)
    with torch.no_grad():
        assert self_attention(long, long, long).equal(kernel(long, long, long))


def test_impossible_degrees_are_refused_with_the_possible_ones() -> None:
    assert possible_degrees(30, 1350) == [1, 2, 3, 5, 6, 10, 15, 30]
    assert possible_degrees(4, 3) == [1, 2]
    check_degree(5, 30, 1350)
    with pytest.raises(
        UserError, match="4 DiT ranks .* possible numbers are 1, 2, 3, 5, 6, 10, 15, 30"
    ):
        check_degree(4, 30, 1350)

"""The judge learns to tell soft frames from true ones, and a decoder's wish makes frames sharper."""

import pytest
import torch
import torch.nn.functional as F

from tests.blur import blurred
from training.adversary import Judge, balance, judge_loss, judged_steps, wish, wishes
from training.autoencoder import to_video
from training.evaluation.held_out import simulated
from training.scene import Scene


@pytest.fixture(scope="module")
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """(soft, true) [6, 3, H, W]."""
    true = simulated(Scene("city", "day", "red"), 3_000_009, ["D"] * 6)[::4]
    return to_video(blurred(true)), to_video(true)


@pytest.fixture(scope="module")
def judge(frames: tuple[torch.Tensor, torch.Tensor]) -> Judge:
    torch.manual_seed(0)
    judge = Judge.of_frames()
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-3)
    for _ in range(150):
        optimiser.zero_grad()
        judge_loss(judge, *frames).backward()
        optimiser.step()
    judge.zero_grad()
    return judge.eval()


def test_the_judge_tells_soft_frames_from_true_ones(
    judge: Judge, frames: tuple[torch.Tensor, torch.Tensor]
) -> None:
    soft, true = frames
    assert float(judge_loss(judge, soft, true).detach()) < 1.2
    assert float(judge_loss(judge, true, true)) >= 2.0, "who is shown the same twice must be wrong"
    assert wishes(judge, true, true)[1] == 0 < wishes(judge, soft, true)[1]


def test_the_wish_sharpens_and_leaves_the_judge_alone(
    judge: Judge, frames: tuple[torch.Tensor, torch.Tensor]
) -> None:
    soft, true = frames
    made = soft.clone().requires_grad_()
    wanted, features = wishes(judge, made, true)
    (wanted + features).backward()
    assert all(p.grad is None or not p.grad.any() for p in judge.parameters())
    assert made.grad is not None
    moved = soft - 0.02 * made.grad.sign()
    assert wishes(judge, moved, true)[0] < wanted
    edges = [x.diff(dim=-1).abs().mean() for x in (soft, moved)]
    assert edges[1] > edges[0]


def test_a_judge_of_latents_learns_which_step_belongs_to_which_key() -> None:
    """Both latents look true by themselves; only with the key they do not."""
    torch.manual_seed(0)
    judge, ids = Judge.of_latents(4), torch.arange(8) % 2
    before = torch.randn(8, 4, 6, 6)
    moved = [before.roll(1 if held else -1, -1)[k] for k, held in enumerate(ids.tolist())]
    after = torch.stack(moved)
    true, made = judged_steps(before, after, ids), judged_steps(before, after, 1 - ids)
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        judge_loss(judge, made, true).backward()
        optimiser.step()
    assert float(judge_loss(judge, made, true).detach()) < 1.0
    judge.zero_grad()
    after = after.requires_grad_()
    wish(judge, judged_steps(before, after, 1 - ids)).backward()
    assert after.grad is not None and after.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in judge.parameters())


def test_balance_makes_both_gradients_equally_long() -> None:
    weight = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss, wish = weight.square().mean(), F.relu(weight).mean() * 0.01
    factor = balance(loss, wish, weight)
    lengths = [
        torch.autograd.grad(value, weight, retain_graph=True)[0].norm()
        for value in (loss, factor * wish)
    ]
    assert factor <= 20
    if factor < 20:
        torch.testing.assert_close(lengths[0], lengths[1], rtol=0.1, atol=0)

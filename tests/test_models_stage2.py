"""The stage-2 sampler beyond its golden case: seeds, progress, refusals."""

import pytest
import torch
from torch import Tensor

from configs.errors import UserError
from models.stage2 import base_latents
from tests.small_world import CPU, SmallWeights, embed_letters


def sample(**changes: object) -> Tensor:
    weights = SmallWeights()
    options: dict[str, object] = {"frames": 9, "steps": 4, "size": (6, 10), "seed": 1}
    text = embed_letters(["a prompt", ""])
    arguments = [
        weights.transformer(CPU, torch.float32),
        weights.controls(),
        text,
        ["D", "DL", "DR"],
    ]
    return base_latents(*arguments, **{**options, **changes})  # type: ignore[arg-type]


def test_same_seed_same_clip() -> None:
    first = sample()
    assert first.shape == (3, 4, 6, 10) and torch.isfinite(first).all()
    assert torch.equal(first, sample())
    assert not torch.allclose(first, sample(seed=2))


def test_progress_counts_steps() -> None:
    seen: list[tuple[int, int]] = []
    sample(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 10}, "4 n \\+ 1"),
        ({"frames": 0}, "4 n \\+ 1"),
        ({"frames": 13}, "expected 4 labels"),
        ({"size": (5, 10)}, "patches"),
        ({"steps": 0}, "number of steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample(**changes)

"""The picture of the shipped world beside the simulator's: it is softer, and the figures say so."""

import pytest

from models.checkpoint import Checkpoint
from tests.places import SHIPPED
from training.evaluation import picture
from training.evaluation.dream import Dream
from training.evaluation.held_out import held_out_scenes


def test_a_reconstruction_is_nearer_than_a_dream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "SECONDS", 5)
    dream = Dream(Checkpoint.open(SHIPPED / "stage4"))
    found = picture.picture(dream, held_out_scenes(2))
    assert found["edges"] < found["edges_reconstructed"] < 1.05
    assert found["edges_least"] <= found["edges"]
    assert found["patches_reconstructed"] < found["patches_dreamed"]
    assert found["patches_ratio"] == found["patches_dreamed"] / found["patches_floor"]
    assert found["reconstructed_psnr"] > found["dream_1s_psnr"] > found["dream_4s_psnr"]
    assert found["reconstructed_ssim"] > found["dream_1s_ssim"] > found["dream_4s_ssim"]
    assert found["reconstructed_features"] < found["dream_1s_features"]

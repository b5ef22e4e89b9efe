"""int8 of the shipped decoder: its ranges are those of its weights, and its pictures are as good."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.engines.decoder import GraphDecoder, convolutions
from models.engines.int8 import INT8_FILE
from models.saving import save_tensors
from models.tae import TinyVAE
from models.weights import WeightFiles
from tests.places import SHIPPED
from training.autoencoder import to_video
from training.int8 import drive_latents, main, write
from training.scene import Scene
from training.simulator import Simulator

CPU = torch.device("cpu")
STAGE3 = SHIPPED / "stage3"


def _decibels(ours: np.ndarray, expected: np.ndarray) -> float:
    error = np.square(ours.astype(np.float64) - expected).mean()
    return float(10 * np.log10(255**2 / error))


def test_shipped_int8_keeps_the_picture() -> None:
    """At least 40 dB from float32, at most 0.2 dB further from the frames that were there, on drives
    that nothing was measured on, the memory fed back."""
    pytest.importorskip("openvino")
    checkpoint = Checkpoint.open(STAGE3)
    ranges = checkpoint.decoder_ranges()
    vae = checkpoint.autoencoder(CPU, torch.float32)
    assert ranges is not None and isinstance(vae, TinyVAE)
    true, exact, rounded = [], [], []
    for seed, (biome, time) in enumerate(
        [("desert", "day"), ("city", "night"), ("snow", "sunset")]
    ):
        drive = Simulator(Scene(biome, time, "blue"), 91_000 + seed)
        frames = np.concatenate([drive.frames(label) for label in ["D"] * 6 + ["DL"] * 6])
        with torch.no_grad():
            latents = vae.encode(to_video(frames)[None])[0] * vae.scaling_factor
        true.append(frames)
        exact.append(vae.stream().push(latents))
        rounded.append(GraphDecoder(vae, ranges).stream().push(latents))
    frames, whole, bytes_ = map(np.concatenate, (true, exact, rounded))
    assert _decibels(bytes_, whole) >= 40
    assert _decibels(bytes_, frames) >= _decibels(whole, frames) - 0.2


def test_measured_again_they_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    shutil.copytree(STAGE3 / "vae", tmp_path / "vae")
    ours, shipped = WeightFiles.open(write(tmp_path)), WeightFiles.open(STAGE3 / INT8_FILE)
    assert ours.metadata == shipped.metadata
    read = [weights.read(convolutions(), CPU, None) for weights in (ours, shipped)]
    for name in convolutions():
        assert torch.allclose(read[0][name], read[1][name], rtol=1e-3), name


def test_drives_are_those_of_the_seed() -> None:
    torch.manual_seed(0)
    vae = Checkpoint.open(STAGE3).autoencoder(CPU, torch.float32)
    assert isinstance(vae, TinyVAE)
    first, again = (drive_latents(vae, 3, "desert", "day") for _ in range(2))
    assert torch.equal(first, again) and first.shape[0] == 12


def test_ranges_of_another_decoder_are_not_used(tmp_path: Path) -> None:
    folder = shutil.copytree(STAGE3, tmp_path / "stage3")
    tensors = {name: torch.ones(1) for name in convolutions()}
    save_tensors(folder / INT8_FILE, tensors, {"decoder": "of another world"})
    assert Checkpoint.open(folder).decoder_ranges() is None


@pytest.mark.parametrize("value", [-1.0, 1e7])
def test_ranges_are_read_strictly(tmp_path: Path, value: float) -> None:
    folder = shutil.copytree(STAGE3, tmp_path / "stage3")
    metadata = dict(WeightFiles.open(folder / INT8_FILE).metadata)
    tensors = {name: torch.ones(1) for name in convolutions()}
    save_tensors(folder / INT8_FILE, tensors | {"up.1": torch.tensor([value])}, metadata)
    with pytest.raises(UserError, match=r"up.1: expected a range"):
        Checkpoint.open(folder).decoder_ranges()
    del tensors["last"]
    save_tensors(folder / INT8_FILE, tensors, metadata)
    with pytest.raises(UserError, match="last missing"):
        Checkpoint.open(folder).decoder_ranges()


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    assert main([str(tmp_path)]) == 2
    assert "vae" in capsys.readouterr().err

"""Presets of a weight folder: prompts, and pictures of them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.frames import to_uint8
from models.presets import read_pictures, read_presets
from pipeline.video import decode_jpeg, encode_jpeg
from tests.places import SHIPPED

PICTURE = encode_jpeg(np.zeros((96, 144, 3), np.uint8), 80)


def folder(tmp_path, count):
    file = tmp_path / "presets.json"
    file.write_text(json.dumps([f"world {index}" for index in range(count)]))
    (tmp_path / "presets").mkdir()
    for index in range(count):
        (tmp_path / "presets" / f"{index}.jpg").write_bytes(PICTURE)
    return file


def test_every_preset_has_its_picture_or_none_has(tmp_path):
    file = folder(tmp_path, 2)
    assert read_presets(file) == ["world 0", "world 1"]
    assert read_pictures(file, 2) == (PICTURE, PICTURE)
    assert read_pictures(tmp_path / "other.json", 2) == ()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.unlink(), "expected a picture for each of 3 presets"),
        (lambda path: path.write_bytes(b"<svg/>"), "expected a JPEG"),
        (lambda path: path.write_bytes(PICTURE + bytes(1 << 19)), "1.jpg"),
    ],
)
def test_a_missing_or_broken_picture_is_one_line(tmp_path, spoil, complaint):
    file = folder(tmp_path, 3)
    spoil(tmp_path / "presets" / "1.jpg")
    with pytest.raises(UserError, match=complaint) as refusal:
        read_pictures(file, 3)
    assert "\n" not in str(refusal.value)


def test_the_embedded_worlds_pictures_are_its_start_clips():
    checkpoint = Checkpoint.open(SHIPPED / "stage4")
    pictures = checkpoint.preset_pictures()
    assert len(pictures) == len(checkpoint.presets) == 15
    vae = checkpoint.autoencoder(torch.device("cpu"), torch.float32)
    clips = load_file(SHIPPED / "stage3" / "start_clips.safetensors")
    for index in (0, 7, 14):
        latents = clips[f"clip.{index}"].float()[None] / vae.scaling_factor
        with torch.no_grad():
            frame = to_uint8(vae.decode(latents)[0])[-1]
        error = np.mean((decode_jpeg(pictures[index]).astype(float) - frame) ** 2)
        assert 10 * np.log10(255**2 / error) > 32

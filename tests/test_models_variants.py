"""Which of a folder's weight files are read: variants, shards, and what desktops leave behind."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from configs.errors import UserError
from models.variants import choose_set, find_sets
from models.weights import WeightFiles

MODEL = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("names", "asked", "chosen"),
    [
        ((f"{MODEL}.safetensors", f"{MODEL}.fp16.safetensors"), None, f"{MODEL}.safetensors"),
        (
            (f"{MODEL}.safetensors", f"{MODEL}.fp16.safetensors"),
            "fp16",
            f"{MODEL}.fp16.safetensors",
        ),
        ((f"{MODEL}.safetensors",), "fp16", f"{MODEL}.safetensors"),
        ((f"{MODEL}.fp16.safetensors",), None, f"{MODEL}.fp16.safetensors"),
        (
            (f"{MODEL}.fp16.safetensors", f"{MODEL}.bf16.safetensors"),
            None,
            f"{MODEL}.bf16.safetensors",
        ),
        ((f"{MODEL}.safetensors", f"{MODEL}.non_ema.safetensors"), None, f"{MODEL}.safetensors"),
        (
            (f"{MODEL}.safetensors", f"{MODEL}.safetensors.index.json"),
            None,
            f"{MODEL}.safetensors.index.json",
        ),
        (
            (
                f"{MODEL}-00001-of-00002.fp16.safetensors",
                f"{MODEL}-00002-of-00002.fp16.safetensors",
                f"{MODEL}.safetensors.index.fp16.json",
            ),
            None,
            f"{MODEL}.safetensors.index.fp16.json",
        ),
        (
            (f"{MODEL}.fp16-00001-of-00001.safetensors", f"{MODEL}.fp16.safetensors.index.json"),
            "fp16",
            f"{MODEL}.fp16.safetensors.index.json",
        ),
        (("model.safetensors", "consolidated.safetensors"), None, "model.safetensors"),
        (("mine.safetensors", "._mine.safetensors", ".DS_Store"), None, "mine.safetensors"),
    ],
)
def test_the_rule(tmp_path: Path, names: tuple[str, ...], asked: str | None, chosen: str) -> None:
    for name in (*names, "Thumbs.db", "config.json"):
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    assert choose_set(tmp_path, find_sets(tmp_path), asked).file.name == chosen


def test_names_that_do_not_tell_are_refused(tmp_path: Path) -> None:
    for name in ("one.safetensors", "two.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="2 safetensors files and no index .*one.safetensors, two"):
        choose_set(tmp_path, find_sets(tmp_path))


def test_sharded_variants_are_read_whole(tmp_path: Path) -> None:
    shards = [f"{MODEL}-0000{n}-of-00002.fp16.safetensors" for n in (1, 2)]
    for shard, name in zip(shards, "ab"):
        save_file({name: torch.ones(2).half()}, tmp_path / shard)
    with pytest.raises(UserError, match="shards and no index file"):
        WeightFiles.open(tmp_path)
    index = {"weight_map": dict(zip("ab", shards))}
    (tmp_path / f"{MODEL}.safetensors.index.fp16.json").write_text(json.dumps(index))
    weights = WeightFiles.open(tmp_path)
    assert weights.entries.keys() == {"a", "b"} and weights.variant == "fp16"

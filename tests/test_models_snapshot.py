"""Files of worlds: what is in one, and that nothing but a whole and fitting one is opened."""

import json
import os
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.live_world import LiveWorld
from models.parts import Parts
from models.snapshot import HEADER, checksum, read_snapshot
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

CPU = torch.device("cpu")
MUTATIONS = int(os.environ.get("MUTATIONS", "2000"))


@pytest.fixture(scope="module")
def live(parts: Parts) -> LiveWorld:
    live = LiveWorld.begin(parts, PROMPTS[0], 7)
    for label in ("D", "DL", "DL"):
        live.step(label)
    live.set_prompt(PROMPTS[1])
    live.step("D")
    return live


@pytest.fixture
def file(live: LiveWorld, tmp_path: Path) -> Path:
    return live.save(tmp_path / "drive.world")


def header_of(file: Path) -> dict[str, Any]:
    with safe_open(str(file), framework="pt") as handle:
        values: dict[str, Any] = json.loads((handle.metadata() or {})["world"])
        return values


def rewrite(file: Path, header: dict[str, Any] | str, **tensors: torch.Tensor) -> Path:
    """With the checksum that it then has."""
    held = {**load_file(file), **tensors}
    if not isinstance(header, str) and "checksum" in header:
        header = {**header, "checksum": checksum(header, held)}
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(held, file, {"world": text})
    return file


def test_what_a_file_says(file: Path, parts: Parts, live: LiveWorld) -> None:
    header = header_of(file)
    assert tuple(header) == HEADER
    assert (header["format"], header["seed"], header["index"]) == (2, 7, 4)
    assert header["labels"] == "D,DL*2,D"
    assert header["prompts"] == [[0, PROMPTS[0]], [3, PROMPTS[1]]]
    assert header["weights"] == parts.checkpoint.world_hash and header["engine"] == parts.engine
    snapshot, engine = read_snapshot(file, parts.checkpoint)
    assert snapshot.labels == live.labels and engine == parts.engine
    assert torch.equal(snapshot.state.latents, live.snapshot().state.latents)


def test_names(live: LiveWorld, tmp_path: Path, file: Path, parts: Parts) -> None:
    for name in ("drive", "drive.safetensors", ".world"):
        with pytest.raises(UserError, match="drive.world"):
            live.save(tmp_path / name)
    with pytest.raises(UserError, match="never overwritten"):
        live.save(file)
    assert live.save(file, overwrite=True) == file
    with pytest.raises(UserError, match="nothing there"):
        read_snapshot(tmp_path / "absent.world", parts.checkpoint)
    (tmp_path / "folder.world").mkdir()
    with pytest.raises(UserError, match="a folder"):
        read_snapshot(tmp_path / "folder.world", parts.checkpoint)


def test_other_weights_are_named(file: Path, tmp_path: Path) -> None:
    other = Checkpoint.open(write_checkpoint(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="open it with the weights it was made with"):
        read_snapshot(file, other)


LIES: dict[str, tuple[str, object]] = {
    "later": ("format", 3),
    "whole number": ("format", "1"),
    "MAX|whole number": ("index", 1 << 60),
    "expected 8, found 4": ("index", 8),
    "seed": ("seed", -1),
    "size": ("size", [1 << 40, 16]),
    "multiples": ("size", [100, 48]),
    "tensor window": ("size", [64, 48]),
    "guidance": ("guidance", "much"),
    "tensor text": ("guidance", 3.0),
    "settings": ("settings", {}),
    "window": ("window", []),
    "a count from 1": ("labels", "D*9999999"),
    "labels": ("labels", "D"),
    "one from latent 0": ("prompts", []),
    "prompt": ("prompts", [[0, "a\u0000b"]]),
    "prompt's latent": ("prompts", [[0, "a"], [9, "b"]]),
    "engine": ("engine", "a\nb"),
}


@pytest.mark.parametrize("message", LIES)
def test_a_lying_header_is_one_line(file: Path, parts: Parts, message: str) -> None:
    key, value = LIES[message]
    rewrite(file, {**header_of(file), key: value})
    with pytest.raises(UserError, match=message) as error:
        read_snapshot(file, parts.checkpoint)
    assert "\n" not in str(error.value) and "drive.world" in str(error.value)


def test_other_headers_and_tensors_are_one_line(file: Path, parts: Parts) -> None:
    header = header_of(file)
    texts = ["", "[]", "{}", "[" * 100_000, '{"format": 1, "format": 1}', '{"format": NaN}']
    for text in texts:
        with pytest.raises(UserError, match="drive.world"):
            read_snapshot(rewrite(file, text), parts.checkpoint)
    with pytest.raises(UserError, match="unknown 'more'"):
        read_snapshot(rewrite(file, {**header, "more": 1}), parts.checkpoint)
    with pytest.raises(UserError, match="NaN"):
        window = torch.full_like(load_file(file)["window"], torch.nan)
        read_snapshot(rewrite(file, header, window=window), parts.checkpoint)
    whole = load_file(file)["window"].nan_to_num()
    with pytest.raises(UserError, match="not part of a world"):
        read_snapshot(rewrite(file, header, window=whole, extra=torch.zeros(1)), parts.checkpoint)


def test_a_byte_that_changed_is_told(file: Path, parts: Parts) -> None:
    """Wherever it lies, whatever number it makes."""
    whole = file.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for at in range(start, len(whole), (len(whole) - start) // 50):
        data = bytearray(whole)
        data[at] ^= 1  # the lowest bit of some number
        file.write_bytes(data)
        with pytest.raises(UserError, match="changed since it was saved: expected the checksum"):
            read_snapshot(file, parts.checkpoint)
    file.write_bytes(whole[:start].replace(rb"\"seed\": 7", rb"\"seed\": 8") + whole[start:])
    assert header_of(file)["seed"] == 8
    with pytest.raises(UserError, match="drive.world: changed .* copy it again") as error:
        read_snapshot(file, parts.checkpoint)
    assert "\n" not in str(error.value)


def test_a_file_of_the_format_without_a_checksum_opens(file: Path, parts: Parts) -> None:
    header = {**header_of(file), "format": 1}
    del header["checksum"]
    snapshot, _ = read_snapshot(rewrite(file, header), parts.checkpoint)
    assert snapshot.index == 4


def test_a_memory_is_in_a_file_where_no_latents_rebuild_it(
    live: LiveWorld, file: Path, parts: Parts
) -> None:
    assert not any(name.startswith("memory/") for name in load_file(file))
    bare = replace(live.snapshot(), latents=())
    bare.save(file, parts.checkpoint, parts.engine, overwrite=True)
    assert np.array_equal(LiveWorld.open(parts, file).step("B"), live.branch().step("B"))
    name = next(name for name in load_file(file) if name.startswith("memory/"))
    rewrite(file, header_of(file), **{name: torch.zeros(3)})
    with pytest.raises(UserError, match="decoder's memory"):
        LiveWorld.open(parts, file)


def test_no_mutation_opens_as_something_else_or_breaks_the_reader(
    file: Path, parts: Parts, tmp_path: Path
) -> None:
    """A changed byte, a cut, a repeat, a foreign stretch: one UserError, or a world that steps."""
    whole, rng = file.read_bytes(), random.Random(0)
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    broken, opened = tmp_path / "broken.world", 0
    for _ in range(MUTATIONS):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(length if rng.random() < 0.8 else len(data))
            match rng.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del data[at : at + rng.choice((1, 2, 100, 10_000))]
                case 2:
                    data[at:at] = data[at : at + rng.choice((1, 7, 300))]
                case 3:
                    data[at:at] = rng.choice((b"9", b"-", b"}", b"\x00", b'"', b"1e999", b"null"))
                case _:
                    del data[at:]
            length = min(length, len(data)) or 1
            if not data:
                break
        broken.write_bytes(bytes(data))
        length = 8 + struct.unpack("<Q", whole[:8])[0]
        try:
            read_snapshot(broken, parts.checkpoint)
            opened += 1
        except UserError as error:
            assert "\n" not in str(error) and "broken.world" in str(error)
    assert opened < MUTATIONS / 2, "most mutations are seen"

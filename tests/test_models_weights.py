"""Every way a weight file can be broken is one line that names the file and says what is wrong."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from configs.errors import UserError
from models.weights import WeightFiles, load_module, read_json

CPU = torch.device("cpu")


def write(file: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors or {"a": torch.ones(2, 3), "b": torch.zeros(4)}, file)
    return file


def header(**tensors: tuple[str, list[int], list[int]]) -> bytes:
    """A safetensors file of four bytes of data whose header says (dtype, shape, offsets) of each
    tensor."""
    entries = {
        name: dict(zip(("dtype", "shape", "data_offsets"), value))
        for name, value in tensors.items()
    }
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + b"\0\0\0\0"


def complaint(place: Path) -> str:
    with pytest.raises(UserError) as error:
        WeightFiles.open(place).read(["a"], CPU, torch.float32)
    assert "\n" not in str(error.value) and str(place.parent) in str(error.value)
    return str(error.value)


def test_tensors_arrive_in_the_wanted_dtype(tmp_path: Path) -> None:
    weights = WeightFiles.open(
        write(tmp_path / "x.safetensors", a=torch.ones(2, 3).half(), b=torch.arange(4))
    )
    assert {name: entry.shape for name, entry in weights.entries.items()} == {
        "a": (2, 3),
        "b": (4,),
    }
    assert weights.read(["a"], CPU, torch.float32)["a"].dtype is torch.float32
    assert weights.read(["b", "a"], CPU, None)["b"].tolist() == [0, 1, 2, 3]


def test_reading_in_small_batches_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"t{i}": torch.randn(7) for i in range(9)}
    weights = WeightFiles.open(write(tmp_path / "x.safetensors", **tensors))
    monkeypatch.setattr("models.weights.BATCH", 60)
    read = weights.read(tensors, CPU, None)
    assert read.keys() == tensors.keys() and all(
        torch.equal(read[name], tensors[name]) for name in tensors
    )


def test_what_was_read_does_not_hang_on_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors")
    tensor = WeightFiles.open(file).read(["a"], CPU, torch.float32)["a"]
    file.write_bytes(b"")
    assert tensor.sum() == 6


def test_sharded_equals_single(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    write(tmp_path / "many/1.safetensors", a=torch.ones(2, 3))
    write(tmp_path / "many/2.safetensors", b=torch.zeros(4))
    index = {"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "many/x.safetensors.index.json").write_text(json.dumps(index))
    single = WeightFiles.open(write(tmp_path / "x.safetensors"))
    sharded = WeightFiles.open(tmp_path / "many")
    assert sharded.entries.keys() == single.entries.keys()
    for name in ("a", "b"):
        assert torch.equal(
            sharded.read([name], CPU, None)[name], single.read([name], CPU, None)[name]
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"abc", "not a safetensors file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n",
            "Git-LFS pointer",
        ),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"PK\x03\x04" + b"\x00" * 100, "pickled"),
        (b"\xff" * 200, "not a safetensors file"),
        (struct.pack("<Q", 5) + b"{oops", "broken safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "broken safetensors header"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "broken safetensors header"),
        (header(a=("F8_E4M3", [4], [0, 4])), "'a' is stored as 'F8_E4M3', expected one of F64"),
        (header(a=("F32", [4], [0, 4])), "[4] of F32 does not fill bytes 0 to 4"),
        (header(a=("F32", [1], [4, 0])), "does not fill bytes 4 to 0"),
        (header(a=("F32", [1], [0, 4]), b=("F32", [1], [0, 4])), "tensors overlap or leave holes"),
        (header(a=("F32", [1], [4, 8])), "tensors overlap or leave holes"),
    ],
)
def test_what_lies_in_place_of_weights(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert message in complaint(file)


def test_truncated_and_overlong_files(tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors")
    whole = file.read_bytes()
    for cut in (1, 20, len(whole) - 60):
        file.write_bytes(whole[:-cut])
        assert "truncated" in complaint(file) or "not a safetensors file" in complaint(file)
    file.write_bytes(whole + b"x")
    assert "too long" in complaint(file)


def test_duplicate_names(tmp_path: Path) -> None:
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    assert "duplicate name 'a'" in complaint(file)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""])
def test_shards_may_not_point_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    write(tmp_path / "x.safetensors")
    (tmp_path / "m/x.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "points outside the folder" in complaint(tmp_path / "m")


def test_broken_shard_indices(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    index = folder / "x.safetensors.index.json"
    index.write_text("{")
    assert "not valid JSON" in complaint(folder)
    index.write_text("{}")
    assert "weight_map" in complaint(folder)
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "c": "1.safetensors"}}))
    assert "shard 1.safetensors is missing" in complaint(folder)
    write(folder / "1.safetensors")
    assert "tensor c missing" in complaint(folder)
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    write(folder / "2.safetensors")
    assert "names must be unique" in complaint(folder)


def test_folders_without_one_safetensors_file(tmp_path: Path) -> None:
    assert "no such file or folder" in complaint(tmp_path / "absent")
    folder = tmp_path / "m"
    folder.mkdir()
    assert "no safetensors weights; it is empty" in complaint(folder)
    (folder / "notes.txt").write_text("")
    assert "it holds notes.txt" in complaint(folder)
    for name in ("model.bin", "model.pt"):
        (folder / name).write_text("")
        assert "pickled weights are never opened" in complaint(folder)
        assert "pickled weights are never opened" in complaint(folder / name)
        (folder / name).unlink()
    write(folder / "1.safetensors")
    write(folder / "2.safetensors")
    assert "2 safetensors files and no index" in complaint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_broken_weights_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    broken = torch.ones(100, dtype=dtype)
    broken[17] = value
    assert "tensor a holds NaN or infinite" in complaint(
        write(tmp_path / "x.safetensors", a=broken)
    )


def test_large_but_finite_weights_are_taken(tmp_path: Path) -> None:
    large = torch.full((100,), 3e38)
    assert torch.equal(
        WeightFiles.open(write(tmp_path / "x.safetensors", a=large)).read(["a"], CPU, None)["a"],
        large,
    )


def test_names_and_shapes_must_fit(tmp_path: Path) -> None:
    weights = WeightFiles.open(write(tmp_path / "x.safetensors"))
    weights.check({"a": (2, 3), "b": (4,)})
    weights.check({"a": (2, 3)}, ignored=["b"])
    with pytest.raises(UserError, match=r"x.safetensors: tensor c missing"):
        weights.check({"a": (2, 3), "b": (4,), "c": (1,)})
    with pytest.raises(UserError, match=r"x.safetensors: tensor b not expected"):
        weights.check({"a": (2, 3)})
    with pytest.raises(
        UserError, match=r"wrong shape: tensors a \(file \[2, 3\], model \[3, 2\]\), b \(file"
    ):
        weights.check({"a": (3, 2), "b": (5,)})
    with pytest.raises(
        UserError,
        match=r"tensors n0, n1, n2, n3, n4 and 3 more missing: expected 8 tensors, found 2",
    ):
        weights.check({f"n{i}": (1,) for i in range(8)})


def test_a_shard_that_does_not_fit_is_named(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", a=torch.ones(2, 3))
    write(tmp_path / "2.safetensors", b=torch.zeros(4))
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    weights = WeightFiles.open(tmp_path)
    with pytest.raises(
        UserError, match=r"/2.safetensors: wrong shape: tensor b \(file \[4\], model \[5\]\)"
    ):
        weights.check({"a": (2, 3), "b": (5,)})
    with pytest.raises(
        UserError, match=r"/2.safetensors: tensor b not expected: expected 1 tensors, found 2"
    ):
        weights.check({"a": (2, 3)})


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    weights = WeightFiles.open(
        write(tmp_path / "x.safetensors", a=torch.ones(2, 3, dtype=torch.int8))
    )
    with pytest.raises(
        UserError, match=r"x.safetensors: stored type of tensor a \(I8\): expected one of F64, F32"
    ):
        weights.check({"a": (2, 3)})


def test_modules_are_filled_from_the_meta_device(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    load_module(empty, WeightFiles.open(tmp_path), CPU, torch.bfloat16)
    assert torch.equal(empty.state_dict()["0.weight"], model.state_dict()["0.weight"].bfloat16())
    assert not empty.training and not any(
        parameter.requires_grad for parameter in empty.parameters()
    )


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    first = WeightFiles.open(write(tmp_path / "x.safetensors", a=torch.ones(5000))).fingerprint()
    same = WeightFiles.open(write(tmp_path / "y.safetensors", a=torch.ones(5000))).fingerprint()
    changed = torch.ones(5000)
    changed[2500] = 2
    other = WeightFiles.open(write(tmp_path / "x.safetensors", a=changed)).fingerprint()
    assert first == same and first != other and len(first) == 32


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"a":1,"a":2}', b"\xff\xfe", b"[" * 100_000]
)
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(UserError, match=r"config.json: cannot be read"):
        read_json(file)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"config.json: (not valid JSON|expected a JSON object)"):
        read_json(file)

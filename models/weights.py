"""Strict reading of safetensors weights: headers first, then tensors, memory-mapped, straight to
device and dtype.

Nothing else is ever opened: no pickled files, no code from a weight folder. Every fault is one
UserError that names the file, and where it can the tensor, what was expected and what was found.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from configs.errors import UserError
from configs.files import parse_json, read_bytes, unique
from models.variants import WeightSet, choose_set, find_sets, seen

MAX_JSON = 16 << 20  # bytes; the index of a sharded model takes one
MAX_HEADER = 100 << 20  # bytes; the limit of the safetensors format itself
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SHOWN = 5  # tensors named in one message
# bytes
SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
# others are quantised: useless without what they were divided by
WEIGHT_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
)
# bytes mapped at a time, so that loading needs little more memory than the model itself
BATCH = 256 << 20


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies, how its numbers are stored (safetensors' name for it), and its size in
    bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of one file or one set of shards, known from their headers only. variant: which
    of a folder's sets it is, such as "fp16"; "" = the plain one."""

    place: Path
    files: tuple[Path, ...]
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    variant: str = ""

    @staticmethod
    def open(place: Path, variant: str | None = None) -> "WeightFiles":
        """Read the headers of a safetensors file, or of the one file or set of shards in a folder;
        of several sets the one that `models.variants` chooses, or the ``variant`` asked for."""
        files, chosen = _find_files(place, variant)
        entries: dict[str, Entry] = {}
        metadata: dict[str, str] = {}
        for file in files:
            header = _read_header(file)
            metadata |= header.pop("__metadata__", {})
            for name, value in header.items():
                if name in entries:
                    raise UserError(
                        f"{file}: tensor {name} is also in {entries[name].file.name}; names must be unique"
                    )
                begin, end = value["data_offsets"]
                entries[name] = Entry(file, value["dtype"], tuple(value["shape"]), end - begin)
        variant = chosen.variant if chosen else ""
        return WeightFiles(place, files, entries, metadata=metadata, variant=variant)

    def check(self, expected: Mapping[str, Iterable[int]], ignored: Iterable[str] = ()) -> None:
        """Raise UserError unless exactly the expected names with the expected shapes are there, as
        floating point.

        ignored: names that may be present and are not read (copies of tied weights).
        """
        wanted = {name: tuple(shape) for name, shape in expected.items()}
        ours = [name for name in self.entries if name not in set(ignored)]
        counts = f"expected {len(wanted)} tensors, found {len(ours)}; weights and config do not belong together"
        missing = [name for name in wanted if name not in self.entries]
        if missing:
            raise UserError(f"{self._where()}: {_some(missing)} missing: {counts}")
        extra = [name for name in ours if name not in wanted]
        if extra:
            raise UserError(f"{self._where(*extra)}: {_some(extra)} not expected: {counts}")
        wrong = [name for name, shape in wanted.items() if self.entries[name].shape != shape]
        if wrong:
            shapes = [
                f"{name} (file {list(self.entries[name].shape)}, model {list(wanted[name])})"
                for name in wrong
            ]
            raise UserError(
                f"{self._where(*wrong)}: wrong shape: {_some(shapes)}; weights and config do not fit"
            )
        other = [name for name in wanted if self.entries[name].dtype not in WEIGHT_DTYPES]
        if other:
            found = _some([f"{name} ({self.entries[name].dtype})" for name in other])
            raise UserError(
                f"{self._where(*other)}: stored type of {found}: expected one of {', '.join(WEIGHT_DTYPES)}"
            )

    def dtypes(self) -> set[str]:
        """How the numbers are stored, in safetensors' names."""
        return {entry.dtype for entry in self.entries.values()}

    def _where(self, *names: str) -> str:
        """The file that holds the first of these tensors; the only file, or the folder of several,
        without names."""
        if names:
            return str(self.entries[names[0]].file)
        return str(self.files[0] if len(self.files) == 1 else self.place)

    def read(
        self, names: Iterable[str], device: torch.device, dtype: torch.dtype | None
    ) -> dict[str, Tensor]:
        """Copy tensors to `device` as `dtype` (None keeps the stored one). NaN or infinite weights
        are refused."""
        tensors: dict[str, Tensor] = {}
        for file, batch in self._batches(names):
            try:
                with safe_open(str(file), framework="pt") as handle:
                    for name in batch:
                        tensors[name] = _finite(handle.get_tensor(name), file, name).to(
                            device, dtype, copy=True
                        )
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{file}: cannot be read ({str(error)[:200]}); fetch it again"
                ) from error
        return tensors

    def _batches(self, names: Iterable[str]) -> Iterator[tuple[Path, list[str]]]:
        """Group names by file, BATCH bytes at a time: mapped pages are given back between two
        batches."""
        by_file = sorted(names, key=lambda name: str(self.entries[name].file))
        for file, held in itertools.groupby(by_file, lambda name: self.entries[name].file):
            batch, size = [], 0
            for name in held:
                batch.append(name)
                size += self.entries[name].size
                if size >= BATCH:
                    yield file, batch
                    batch, size = [], 0
            yield file, batch

    def fingerprint(self) -> str:
        """Return a stable name of the contents from headers, sizes and samples: cheap for files of
        any size."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            size = file.stat().st_size
            digest.update(f"{size};".encode())
            with file.open("rb") as stream:
                start = int.from_bytes(stream.read(8), "little")
                digest.update(stream.read(start))
                for sample in range(64):
                    stream.seek(8 + start + (size - 8 - start) * sample // 64)
                    digest.update(stream.read(1024))
        return digest.hexdigest()


def load_module(
    module: nn.Module, weights: WeightFiles, device: torch.device, dtype: torch.dtype
) -> None:
    """Fill a module built on the meta device with exactly its tensors, and freeze it for
    inference."""
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    weights.check(expected)
    module.load_state_dict(weights.read(expected, device, dtype), strict=True, assign=True)
    module.requires_grad_(False).eval()


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or raise UserError saying what is wrong with it."""
    text = read_bytes(file, MAX_JSON, str(file))
    try:
        value = parse_json(text, unique)
    except ValueError as error:
        raise UserError(
            f"{file}: not valid JSON ({_describe(text[:512]) or str(error)[:120]})"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object, found a {type(value).__name__}")
    return value


def listing(folder: Path) -> str:
    """Say what a folder holds, for messages."""
    names = [item.name + "/" * item.is_dir() for item in seen(folder)]
    if not names:
        return "it is empty"
    return f"it holds {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"


def _find_files(place: Path, asked: str | None) -> tuple[tuple[Path, ...], WeightSet | None]:
    """The files to read, and the set of a folder's weights that they are."""
    if place.is_file():
        _refuse_pickled(place)
        return (place,), None
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder; expected safetensors weights there")
    sets = find_sets(place)
    if sets:
        chosen = choose_set(place, sets, asked)
        return (_shards(chosen.file) if chosen.sharded else (chosen.file,)), chosen
    items = seen(place)
    if any(item.suffix == ".safetensors" for item in items):
        raise UserError(f"{place}: shards and no index file ({items[0].name} ...); fetch it again")
    for item in items:
        _refuse_pickled(item)
    raise UserError(f"{place}: no safetensors weights; {listing(place)}")


def _refuse_pickled(file: Path) -> None:
    if file.suffix in PICKLED:
        raise UserError(
            f"{file}: pickled weights are never opened (they can run code); convert them to safetensors"
        )


def _shards(index: Path) -> tuple[Path, ...]:
    """Return the shard files an index names; they lie beside it."""
    places = read_json(index).get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(name, str) for name in places.values())
    ):
        raise UserError(f"{index}: expected an object weight_map from tensor names to files")
    for name in places.values():
        if name != Path(name).name or name in ("", ".", ".."):
            raise UserError(
                f"{index}: shard {name[:80]!a} points outside the folder; shards must lie beside the index"
            )
    files = tuple(index.parent / name for name in sorted(set(places.values())))
    for file in files:
        if not file.is_file():
            what = f"a link to {file.readlink()}, gone" if file.is_symlink() else "missing"
            raise UserError(f"{index}: shard {file.name} is {what}; {listing(index.parent)}")
        held = _read_header(file).keys()
        lost = [
            tensor for tensor, name in places.items() if name == file.name and tensor not in held
        ]
        if lost:
            raise UserError(f"{file}: {_some(lost)} missing, though {index.name} says it is there")
    return files


def _read_header(file: Path) -> dict[str, Any]:
    """Return a safetensors header after checking that the file is whole."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            head = (
                stream.read(length) if length <= min(MAX_HEADER, size) else start + stream.read(512)
            )
    except OSError as error:
        link = f"; it is a link to {file.readlink()}" if file.is_symlink() else ""
        raise UserError(f"{file}: cannot be read ({error.strerror}{link})") from error
    if size == 0:
        raise UserError(f"{file}: the file is empty; fetch it again")
    if len(start) < 8 or length > min(MAX_HEADER, size) or len(head) != length:
        found = (
            _describe(head if len(start) == 8 else start) or f"{size} bytes, header length {length}"
        )
        raise UserError(f"{file}: not a safetensors file ({found}); fetch it again")
    try:
        header = json.loads(head, object_pairs_hook=unique)
        spans = [
            _checked_span(name, value) for name, value in header.items() if name != "__metadata__"
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: broken safetensors header ({str(error)[:120]}); fetch it again"
        ) from error
    spans.sort()
    for (_, last), (first, _) in itertools.pairwise([(0, 0), *spans]):
        if first != last:
            raise UserError(
                f"{file}: broken safetensors header (tensors overlap or leave holes); fetch it again"
            )
    end = 8 + length + (spans[-1][1] if spans else 0)
    if size != end:
        kind = "truncated" if size < end else "too long"
        raise UserError(f"{file}: {kind}: expected {end} bytes, found {size}; fetch it again")
    return header


def _checked_span(name: str, value: dict[str, Any]) -> tuple[int, int]:
    """Return where a header entry's data begins and ends, after checking that its shape fills
    exactly that."""
    shape, (begin, end), dtype = value["shape"], value["data_offsets"], value["dtype"]
    if not (
        isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in [*shape, begin, end])
    ):
        raise ValueError(f"tensor {name[:80]!a} is not described properly")
    if dtype not in SIZES:
        raise ValueError(
            f"tensor {name[:80]!a} is stored as {dtype[:20]!a}, expected one of {', '.join(SIZES)}"
        )
    if end - begin != math.prod(shape) * SIZES[dtype]:
        raise ValueError(
            f"tensor {name[:80]!a}: {shape} of {dtype} does not fill bytes {begin} to {end}"
        )
    return begin, end


def _describe(start: bytes) -> str:
    """Recognise what often lies in place of weights."""
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git-LFS pointer: run git lfs pull"
    if text.startswith((b"<!doctype", b"<html")):
        return "it is a web page, not weights"
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "it is a pickled file, which is never opened"
    return ""


def _finite(tensor: Tensor, file: Path, name: str) -> Tensor:
    # A finite sum proves all weights finite at the cost of one pass; only a suspicious one is
    # looked at closely.
    suspicious = tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float32))
    if suspicious and not torch.isfinite(tensor).all():
        raise UserError(
            f"{file}: tensor {name} holds NaN or infinite weights; fetch or train it again"
        )
    return tensor


def _some(names: list[str], noun: str = "tensor") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names[:SHOWN])}{more}"

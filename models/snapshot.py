"""A world at one latent, and the file that holds it: NAME.world (docs/snapshots.md).

The file is safetensors: numbers as tensors, all else as one JSON object under the metadata key
"world". It is read strictly: everything the header says is checked against the weights and against
the file's size before a tensor is touched, then a checksum of all of it, and nothing in it is ever
run.

Legend: F latents in the window, C x h x w one latent, W latents a step, N_t text tokens of width
Dt.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from configs.files import found_at, parse_json, unique
from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from configs.limits import (
    check_output_file,
    check_path,
    check_prompt,
    check_seed,
    quoted,
    real_number,
    whole_number,
)
from configs.schema import StreamSettings
from models.checkpoint import Checkpoint
from models.controls import MAX_SIGNAL, parse_signal, write_signal
from models.saving import save_tensors
from models.vae import REACH
from models.weights import Entry, WeightFiles
from models.world import WorldState

FORMAT: Final = 2
UNCHECKED: Final = 1  # the format without a checksum, which is read too
SUFFIX: Final = ".world"
LARGEST: Final = 2 << 30  # bytes; a published world takes about a tenth of it
LARGEST_SIDE: Final = 4096  # pixels
REPLAY: Final = REACH  # latents whose decoding again rebuilds any decoder's memory
REWIND: Final = 60 * LATENTS_PER_SECOND  # latents: as far back as one can always go
KEPT_EVERY: Final = 8  # latents between two moments that are kept
KEPT: Final = REWIND // KEPT_EVERY + 2  # of them
FLOATS: Final = ("F32", "F16", "BF16", "F64")
HEADER: Final = (
    "format",
    "model",
    "weights",
    "engine",
    "seed",
    "index",
    "size",
    "guidance",
    "settings",
    "window",
    "labels",
    "prompts",
    "checksum",
)


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides what comes next, and how it came about. Never changed.

    labels: all that steered it since its reset, one a latent. prompts: (latent, text), each in
    force from its latent on. frames uint8 [n, H, W, 3]: what the last step showed. memory: the
    decoder's; empty where it is large. ``latents``, the last ones [C, h, w] that left the window,
    rebuild it then, in a file, and where the width is shared among other workers.
    """

    state: WorldState
    settings: StreamSettings
    guidance: float
    labels: tuple[str, ...]
    prompts: tuple[tuple[int, str], ...]
    frames: np.ndarray
    memory: Mapping[str, Tensor]
    latents: tuple[Tensor, ...] = ()

    @property
    def index(self) -> int:
        """Latents shown since the reset."""
        return self.state.index

    def save(
        self,
        path: Path,
        checkpoint: Checkpoint,
        engine: str,
        overwrite: bool = False,
        private: bool = False,
    ) -> None:
        """Write the file whole or not at all. engine: what computed it, as `Parts.engine` says.
        private: see `save_tensors`. Raises UserError."""
        check_name(path)
        check_output_file(path, "save", overwrite)
        tensors = {"window": self.state.latents, "text": self.state.text}
        if self.latents:  # a third of what the memory takes that they rebuild
            tensors["latents"] = torch.stack(self.latents)
        else:
            tensors |= {f"memory/{name}": tensor for name, tensor in self.memory.items()}
        if self.frames.size:
            tensors["frames"] = torch.from_numpy(self.frames)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        header = self._header(checkpoint, engine)
        header["checksum"] = checksum(header, tensors)
        text = json.dumps(header, ensure_ascii=False)
        save_tensors(path, tensors, {"world": text}, private, overwrite)

    def _header(self, checkpoint: Checkpoint, engine: str) -> dict[str, Any]:
        state = self.state
        height, width = (checkpoint.pixels_per_latent * side for side in state.latents.shape[2:])
        return {
            "format": FORMAT,
            "model": checkpoint.name,
            "weights": checkpoint.world_hash,
            "engine": engine,
            "seed": state.seed,
            "index": state.index,
            "size": [width, height],
            "guidance": self.guidance,
            "settings": asdict(self.settings),
            "window": {
                "labels": write_signal(state.labels),
                "cursors": list(state.cursors),
                "prompt_version": state.prompt_version,
            },
            "labels": write_signal(self.labels),
            "prompts": [list(prompt) for prompt in self.prompts],
        }


def world_file(path: object) -> Path:
    """``path`` as a Path, if it can be one. Raises UserError."""
    if not isinstance(path, str | Path):
        raise UserError(f"path: expected a file name such as drive{SUFFIX}, got {quoted(path)}")
    return Path(path)


def check_name(path: Path) -> None:
    """Raise UserError unless it is a name such as drive.world."""
    check_path(path, "snapshot")
    if path.suffix != SUFFIX or path.name == SUFFIX:
        raise UserError(f"snapshot {path}: expected a name such as drive{SUFFIX}")


def read_snapshot(path: Path, checkpoint: Checkpoint) -> tuple[Snapshot, str]:
    """Read a file made with these weights; also the engine that computed it. Raises UserError with
    one line for a wrong model, a later format, a torn, a changed or a lying file.

    The decoder's memory is checked where there is a decoder (`live_world`)."""
    check_name(path)
    if not path.is_file():
        raise UserError(f"snapshot {path}: expected a file, found {found_at(path)} there")
    if path.stat().st_size > LARGEST:
        raise UserError(f"snapshot {path}: larger than {LARGEST >> 30} GB, so it is not a world")
    files = WeightFiles.open(path)
    try:
        header = _Header.read(files.metadata.get("world", ""), checkpoint)
        header.check_tensors(files.entries, checkpoint)
        tensors = files.read(files.entries, torch.device("cpu"), None)
        header.check_contents(tensors)
    except UserError as error:
        raise UserError(f"snapshot {path}: {error}") from None
    return header.snapshot(tensors), header.engine


@dataclass(frozen=True)
class _Header:
    """What a file says of itself, checked. size: (C, h, w) of a latent. picture: height and width of
    a frame in pixels. values: all of it, as it was read."""

    values: Mapping[str, Any]
    engine: str
    seed: int
    index: int
    size: tuple[int, int, int]
    picture: tuple[int, int]
    guidance: float
    settings: StreamSettings
    window: tuple[str, ...]
    cursors: tuple[int, ...]
    prompt_version: int
    labels: tuple[str, ...]
    prompts: tuple[tuple[int, str], ...]

    @staticmethod
    def read(text: str, checkpoint: Checkpoint) -> "_Header":
        """Raises UserError for whatever does not fit the format, itself or the weights."""
        values = _object(_json(text), "header", first="format")
        later = whole_number("format", values["format"], 1, 1 << 31)
        if later > FORMAT:
            raise UserError(f"format {later} is later than {FORMAT}, which this version reads")
        _object(values, "header", HEADER[:-1] if later == UNCHECKED else HEADER)
        _check_weights(values, checkpoint)
        settings = _settings(values["settings"])
        index = whole_number("index", values["index"], 0, MAX_SIGNAL)
        if index % settings.window_size:
            raise UserError(f"index {index} is inside a step of {settings.window_size} latents")
        picture = _picture(values["size"])
        window = _object(values["window"], "window", ("labels", "cursors", "prompt_version"))
        count = settings.latents
        cursors = _list("window cursors", window["cursors"], count)
        return _Header(
            values=values,
            engine=_text("engine", values["engine"]),
            seed=check_seed(values["seed"]),
            index=index,
            size=(checkpoint.latent_channels, *checkpoint.latent_size(*picture)),
            picture=picture,
            guidance=real_number("guidance", values["guidance"], 0, 100),
            settings=settings,
            window=_labels("window labels", window["labels"], count),
            cursors=tuple(whole_number("cursor", cursor, 0, 1 << 53) for cursor in cursors),
            prompt_version=whole_number("prompt version", window["prompt_version"], 0, 1 << 53),
            labels=_labels("labels", values["labels"], index),
            prompts=_prompts(values["prompts"], index),
        )

    def check_tensors(self, entries: Mapping[str, Entry], checkpoint: Checkpoint) -> None:
        """Raise UserError unless these are the tensors of such a world: nothing is read or
        allocated for others."""
        config = checkpoint.transformer_config
        texts = 1 if self.guidance == 1.0 else 2
        text = (texts, config.max_text_seq_length, config.text_embed_dim)
        expect_tensor(entries, "window", (self.settings.latents, *self.size))
        expect_tensor(entries, "text", text)
        for name, entry in entries.items():
            if name == "latents":
                expect_tensor(entries, name, (min(REPLAY, self.index), *self.size))
            elif name == "frames":
                most = FRAMES_PER_LATENT * (self.settings.window_size + 1)
                if entry.shape and not 1 <= entry.shape[0] <= most:
                    raise UserError(f"frames: expected at most {most}, found {entry.shape[0]}")
                expect_tensor(entries, name, (*entry.shape[:1], *self.picture, 3), ("U8",))
            elif name not in ("window", "text") and not name.startswith("memory/"):
                raise UserError(f"tensor {name[:80]!a}: not part of a world")

    def check_contents(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise UserError for a file in which something changed since it was saved."""
        if self.values["format"] == UNCHECKED:
            return
        expected, found = self.values["checksum"], checksum(self.values, tensors)
        if expected != found:
            raise UserError(
                f"changed since it was saved: expected the checksum {quoted(expected)}, found {found};"
                " copy it again from where it was saved, or take another file"
            )

    def snapshot(self, tensors: Mapping[str, Tensor]) -> Snapshot:
        """The snapshot of these tensors, which have been checked."""
        state = WorldState(
            seed=self.seed,
            index=self.index,
            latents=tensors["window"],
            text=tensors["text"],
            labels=self.window,
            cursors=self.cursors,
            prompt_version=self.prompt_version,
        )
        frames = tensors.get("frames", torch.zeros(0, *self.picture, 3, dtype=torch.uint8))
        return Snapshot(
            state=state,
            settings=self.settings,
            guidance=self.guidance,
            labels=self.labels,
            prompts=self.prompts,
            frames=frames.numpy(),
            memory={
                name.removeprefix("memory/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("memory/")
            },
            latents=tuple(tensors["latents"]) if "latents" in tensors else (),
        )


def expect_tensor(
    entries: Mapping[str, Entry],
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...] = FLOATS,
) -> None:
    """Raise UserError unless a tensor of this name, shape and one of these stored types is
    there."""
    entry = entries.get(name)
    if entry is None:
        raise UserError(f"tensor {name} is missing")
    if entry.shape != shape or entry.dtype not in dtypes:
        found = f"{entry.dtype} {list(entry.shape)}"
        raise UserError(f"tensor {name}: expected {dtypes[0]} {list(shape)}, found {found}")


def checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of all that a file holds: its header without the checksum, and tensors on the CPU as they are
    stored."""
    said = {key: value for key, value in header.items() if key != "checksum"}
    digest = hashlib.blake2b(json.dumps(said).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _json(text: str) -> object:
    if not text:
        raise UserError("no world in it; expected a file that a world was saved to")
    try:
        return parse_json(text, unique)
    except ValueError as error:
        raise UserError(f"broken header ({str(error)[:100]!a})") from None


def _object(value: object, name: str, keys: Iterable[str] = (), first: str = "") -> dict[str, Any]:
    """``value`` if it is an object with exactly these keys; with ``first``, at least that one."""
    if not isinstance(value, dict):
        raise UserError(f"{name}: expected an object, found {type(value).__name__}")
    wanted = {first} if first else set(keys)
    lost = sorted(wanted - value.keys())
    if lost:
        raise UserError(f"{name}: {lost[0]} is missing")
    extra = sorted(value.keys() - wanted)
    if extra and not first:
        raise UserError(f"{name}: unknown {extra[0][:40]!a}")
    return value


def _list(name: str, value: object, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise UserError(f"{name}: expected a list{'' if count is None else f' of {count}'}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise UserError(f"{name}: expected a line of text")
    return value


def _check_weights(values: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    name, made_with = (_text(key, values[key]) for key in ("model", "weights"))
    if made_with != checkpoint.world_hash:
        raise UserError(
            f"made with {name!a} ({made_with[:12]!a}), but these weights are {checkpoint.name} "
            f"({checkpoint.world_hash[:12]}); open it with the weights it was made with"
        )


def _settings(value: object) -> StreamSettings:
    values = _object(value, "settings", [field.name for field in fields(StreamSettings)])
    if not isinstance(values["solver"], str):
        raise UserError("settings: solver: expected text")
    return StreamSettings(**values)


def _picture(value: object) -> tuple[int, int]:
    """Height and width of a frame in pixels, written the other way round."""
    width, height = (
        whole_number("size", side, 1, LARGEST_SIDE) for side in _list("size", value, 2)
    )
    return height, width


def _labels(name: str, value: object, count: int) -> tuple[str, ...]:
    """As many labels as they must be."""
    if not isinstance(value, str):
        raise UserError(f"{name}: expected text")
    labels = tuple(parse_signal(value)) if value else ()
    if len(labels) != count:
        raise UserError(f"{name}: expected {count}, found {len(labels)}")
    return labels


def _prompts(value: object, index: int) -> tuple[tuple[int, str], ...]:
    """(latent, text) in the order of their latents, the first from latent 0 on."""
    prompts: list[tuple[int, str]] = []
    for item in _list("prompts", value):
        latent, text = _list("prompts", item, 2)
        first = prompts[-1][0] if prompts else 0
        prompts.append((whole_number("prompt's latent", latent, first, index), check_prompt(text)))
    if not prompts or prompts[0][0]:
        raise UserError("prompts: expected one from latent 0 on")
    return tuple(prompts)

"""Which engine a machine runs: the fastest of those that fit the weights, measured on the real shapes.

A choice is kept in the user's cache folder, one small file per machine, weights and library versions,
so that a machine always makes the same frames from the same seed.
"""

import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from configs.choice import ENGINES
from configs.errors import UserError
from configs.load import cache_folder
from models.checkpoint import Checkpoint
from models.controls import STRAIGHT_ON
from models.device import has_bfloat16, processor, use_threads
from models.engines.openvino import multiplies_bytes, present, version
from models.parts import Parts

PASSES = 6  # of each engine; the fastest counts, which other work on the machine disturbs least
MEASURING = "measuring which engine is fastest here, once: some seconds, longer on a busy machine"


@dataclass(frozen=True)
class Timing:
    """The fastest step and decode of a latent that were seen, in milliseconds on one thread."""

    step: float
    decode: float


@dataclass(frozen=True)
class Choice:
    """An engine's name, why it was chosen, and what was measured (nothing where it was asked for
    or there is only one)."""

    name: str
    reason: str
    timings: Mapping[str, Timing]

    def __str__(self) -> str:
        return f"engine {self.told}"

    def of(self, ranks: int) -> str:
        """The line of a transformer of so many ranks: several compute with PyTorch, as
        `models.engines.serve` says."""
        shared = ranks > 1 and self.name.startswith("openvino")
        return (
            f"{self}; {ranks} ranks of the transformer step with PyTorch" if shared else str(self)
        )

    @property
    def told(self) -> str:
        """All of it on a line."""
        seen = ", ".join(
            f"{name} {timing.step:.0f} + {timing.decode:.0f} ms"
            for name, timing in self.timings.items()
        )
        return f"{self.name}, {self.reason}" + (f" (step + decode: {seen})" if seen else "")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def choose_engine(
    checkpoint: Checkpoint,
    device: torch.device,
    wanted: str | None = None,
    tell: Callable[[str], None] = _to_stderr,
    why: str = "as asked",
) -> Choice:
    """The engine for these weights on this device; ``tell`` hears a line where it must be measured
    first. why: this one is wanted. Raises UserError when it cannot run here."""
    if wanted is not None:
        reason = unfit(wanted, checkpoint, device)
        if reason:
            raise UserError(f"engine {wanted}: {reason}")
        return Choice(wanted, why, {})
    names = [name for name in ENGINES if not unfit(name, checkpoint, device)]
    if "torch-bf16" in names and not has_bfloat16(device):
        names.remove("torch-bf16")  # it takes many times as long there
    if len(names) == 1:
        return Choice(names[0], "the only one that fits", {})
    if checkpoint.transformer_config.large:
        name = "torch-bf16" if "torch-bf16" in names else names[0]
        return Choice(name, "too large to be measured at the start", {})
    file = cache_folder() / "engines" / f"{_key(checkpoint, names)}.json"
    timings, reason = _remembered(file, names), "the fastest when it was measured"
    if timings is None:
        tell(MEASURING)
        timings, reason = _agreed(file, measure(checkpoint, names), names), "the fastest"
    name = min(timings, key=lambda name: timings[name].step + timings[name].decode)
    return Choice(name, reason, timings)


def with_engine(checkpoint: Checkpoint, device: torch.device) -> Checkpoint:
    """The same weights with the engine that was asked for, or else the one this machine chose.
    Raises UserError when what was asked for cannot run here."""
    choice = choose_engine(checkpoint, device, checkpoint.engine)
    return replace(checkpoint, engine=choice.name)


def unfit(name: str, checkpoint: Checkpoint, device: torch.device) -> str:
    """Why an engine cannot run these weights on this device; "" when it can."""
    if device.type == "cuda":
        return "" if name == "torch-bf16" else "a GPU runs torch-bf16 only"
    if name == "torch-fp32":
        return ""
    if not checkpoint.tiny and not (name == "torch-bf16" and checkpoint.transformer_config.large):
        return "the full autoencoder runs with torch-fp32 only"
    if not name.startswith("openvino"):
        return ""
    if not present():
        return "the package openvino is not installed here (pip install -e '.[openvino]')"
    if name == "openvino-int8":
        if checkpoint.decoder_ranges() is None:
            return "these weights have no ranges for int8 (python -m training.int8 FOLDER)"
        if not multiplies_bytes():
            return "this CPU has no instructions for int8"
    return ""


def measure(checkpoint: Checkpoint, names: list[str]) -> dict[str, Timing]:
    """Step and decode of every engine in turns, on one thread, as a live rank computes."""
    before = torch.get_num_threads()
    use_threads(1)
    try:
        timed = {name: _passes(replace(checkpoint, engine=name)) for name in names}
        found = {name: [math.inf, math.inf] for name in names}
        for _ in range(PASSES):
            for name, passes in timed.items():
                for number, work in enumerate(passes):
                    begun = time.perf_counter()
                    work()
                    spent = 1000 * (time.perf_counter() - begun)
                    found[name][number] = min(found[name][number], spent)
    finally:
        use_threads(before)
    return {
        name: Timing(round(step, 2), round(decode, 2)) for name, (step, decode) in found.items()
    }


def _passes(checkpoint: Checkpoint) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step and a decode of one latent, each done once already (that is when graphs are made)."""
    parts = Parts(checkpoint, torch.device("cpu"))
    world, stream = parts.world(), parts.decoder()
    config = checkpoint.transformer_config
    world.reset(0, torch.zeros(2, config.max_text_seq_length, config.text_embed_dim))
    latent = torch.zeros(1, *world.shape)
    labels = [STRAIGHT_ON] * world.settings.window_size

    def step() -> object:
        return world.step(labels)

    def decode() -> object:
        return stream.push(latent)

    step()
    decode()
    return step, decode


def _key(checkpoint: Checkpoint, names: list[str]) -> str:
    """Changes with the machine, the weights and the libraries."""
    config = json.dumps(asdict(checkpoint.transformer_config), sort_keys=True)
    streaming = json.dumps(asdict(checkpoint.streaming), sort_keys=True)
    parts = [platform.node(), processor(), checkpoint.world_hash, str(checkpoint.decoder_ranges())]
    parts += [config, streaming, torch.__version__, version(), *names]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()


def _remembered(file: Path, names: list[str]) -> dict[str, Timing] | None:
    """What was measured before; None when there is no such file, or not what we wrote."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        timings = {name: Timing(**values[name]) for name in names}
        numbers = [number for timing in timings.values() for number in asdict(timing).values()]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    good = all(type(number) is float and 0 < number < 1e6 for number in numbers)
    return timings if good else None


def _agreed(file: Path, timings: dict[str, Timing], names: list[str]) -> dict[str, Timing]:
    """Keep what was measured, unless another process was first: then all go by that."""
    text = json.dumps({name: asdict(timing) for name, timing in timings.items()}, indent=2)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):  # a home that cannot be written: measured anew each time
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text + "\n", encoding="utf-8")
        try:
            os.link(part, file)  # fails where the file is there already
        except FileExistsError:
            if _remembered(file, names) is None:
                os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    return _remembered(file, names) or timings

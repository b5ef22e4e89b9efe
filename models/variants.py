"""Which of a folder's weight files are read, told by their names alone.

diffusers and transformers name one set of weights ``STEM[.VARIANT].safetensors``; in shards its
index is ``STEM.safetensors.index[.VARIANT].json``. The rule where several sets lie side by side:
the variant that is asked for; else the plain one; else fp32, bf16, fp16, in this order; else the
first by name. Shards with an index come before a single file of the same variant. What desktops and
unpackers leave behind (``._x.safetensors`` and other hidden files) is never looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError

# The stems that diffusers, transformers and peft write; files of other names count without them.
USUAL = ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model")
PREFERRED = ("", "fp32", "bf16", "fp16")
_INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
_FILE = re.compile(r"(?P<stem>.+?)(?:\.(?P<variant>[\w-]+))?\.safetensors")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\b")


@dataclass(frozen=True)
class WeightSet:
    """One set of weights: a safetensors file, or the index of its shards. variant: "" = plain."""

    file: Path
    stem: str
    variant: str
    sharded: bool


def seen(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files and what unpackers leave."""
    return sorted(item for item in folder.iterdir() if not item.name.startswith((".", "__MACOSX")))


def find_sets(folder: Path) -> list[WeightSet]:
    """The sets of weights in a folder, the best first. Shards belong to their index and are none."""
    found = []
    for item in seen(folder):
        index = _INDEX.fullmatch(item.name)
        match = index or (None if _SHARD.search(item.name) else _FILE.fullmatch(item.name))
        if match is not None:
            stem, variant = match["stem"], match["variant"] or ""
            # an older form: STEM.VARIANT.safetensors.index
            if index and not variant and "." in stem:
                stem, variant = stem.rsplit(".", 1)
            found.append(WeightSet(item, stem, variant, index is not None))
    usual = [candidate for candidate in found if candidate.stem in USUAL]
    return sorted(usual or found, key=_rank)


def choose_set(folder: Path, sets: Sequence[WeightSet], asked: str | None = None) -> WeightSet:
    """The set to read of those in a folder, the best first. A folder that lacks the variant asked
    for gives the one it would give anyway. Raises UserError where names do not tell."""
    wanted = [candidate for candidate in sets if candidate.variant == asked] or list(sets)
    first = wanted[0]
    rivals = [
        candidate.file.name
        for candidate in wanted
        if (candidate.variant, candidate.sharded) == (first.variant, first.sharded)
    ]
    if len(rivals) > 1:
        raise UserError(
            f"{folder}: {len(rivals)} safetensors files and no index file that names them "
            f"({', '.join(rivals[:3])}); expected one file, or shards with an index"
        )
    return first


def _rank(candidate: WeightSet) -> tuple[int, str, bool, str]:
    variant = candidate.variant
    place = PREFERRED.index(variant) if variant in PREFERRED else len(PREFERRED)
    return place, variant, not candidate.sharded, candidate.stem

"""What a benchmark is asked for, and on what machine it runs."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.device import cores, host_memory, processor_name


@dataclass(frozen=True)
class Options:
    """model: weights of the parts ``model`` and ``live``. threads: counts that part ``model``
    tries. seconds: shown stream of part ``live``, whose split of the delay is drawn to ``plot``.
    folder: where part ``load`` writes its 4 GB. shape, json: of part ``gpu``, published or tiny, and
    the file that it writes as it goes."""

    model: Path
    threads: tuple[int, ...]
    seconds: float
    folder: Path
    plot: Path | None = None
    shape: str = "published"
    json: Path | None = None


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = processor_name() or platform.processor() or platform.machine()
    memory = host_memory() / 2**30
    load = os.getloadavg()[0]
    summary = f"{cores()} cores of {processor}, {memory:.0f} GiB, torch {version('torch')}, load {load:.1f}"
    return {
        "summary": summary,
        "cores": cores(),
        "processor": processor,
        "memory_gib": round(memory, 1),
    }

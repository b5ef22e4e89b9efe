"""The delay of live runs as a picture; needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

matplotlib.use("Agg")


def draw(runs: dict[str, dict[str, Any]], parts: Sequence[str], path: Path) -> None:
    """Stacked bars of the medians, one bar per run."""
    figure, axes = pyplot.subplots(figsize=(8, 2.6))
    for place, figures in enumerate(runs.values()):
        left = 0.0
        for part, color in zip(parts, pyplot.get_cmap("tab10").colors):  # type: ignore[attr-defined]
            width = figures["split_ms"][part]["p50"] or 0.0
            axes.barh(place, width, left=left, color=color, label=part if not place else None)
            left += width
        p95 = figures["control_to_frame_ms"]["p95"]
        axes.plot(
            [p95], [place], "k|", markersize=14, label="p95 of the whole" if not place else None
        )
        axes.text(left + 4, place, f"{left:.0f} ms", va="center")
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds from a key to its first frame (medians of the parts)")
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.34), frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)

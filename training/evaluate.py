"""Measures a trained world against the simulator it learned from: `python -m training.evaluate
models/tiny`.

Streams run through `models.world.World` and the streaming decoder, exactly as they are served.
Scenes and seeds are held out. Prints a table; --json and --plots write the figures and their
curves.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import one_line_errors
from configs.geometry import LATENTS_PER_SECOND
from models.checkpoint import Checkpoint
from models.controls import random_signal
from models.device import use_threads
from training.evaluation.closed_loop import closed_loop, starts
from training.evaluation.control import held_labels, response, speed_ratios, stream_of_50
from training.evaluation.dream import Dream
from training.evaluation.held_out import Place, held_out_scenes, simulated
from training.evaluation.horizon import courses, horizon, summary
from training.evaluation.passing import passing_figures
from training.evaluation.picture import picture
from training.evaluation.probe import Probe, fitted_probe
from training.evaluation.prompts import prompts
from training.evaluation.reconstruction import reconstruction
from training.evaluation.report import table
from training.evaluation.road import road_figures
from training.plots import plot_response


@dataclass(frozen=True)
class Extent:
    """How much is measured: held-out scenes per experiment, minutes of the longest stream (0: no
    long ones), streams of five minutes beside it, streams driven side by side."""

    scenes: int = 15
    minutes: float = 0.0
    horizon_seeds: int = 8
    processes: int = 2


def megabytes(folder: Path) -> float:
    """All files below a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file()) / 1e6


def evaluate(folder: Path, stage: str, extent: Extent) -> dict[str, Any]:
    """All figures of one stage's weights."""
    checkpoint = Checkpoint.open(folder / stage)
    dream, places = Dream(checkpoint), held_out_scenes(extent.scenes)
    probe, accuracy = fitted_probe(view=dream.view)
    true = partial(simulated, view=dream.view)
    figures: dict[str, Any] = {"stage": stage, "scenes": extent.scenes}
    figures |= {"megabytes": megabytes(folder), "probe_accuracy": accuracy}
    figures |= reconstruction(dream.vae, extent.scenes)
    estimator, truth = held_labels(true, places), response(true, places)
    figures["estimator"] = {name: value for name, value in estimator.items() if name != "rows"}
    figures |= stream_of_50(dream, places)
    figures |= held_labels(dream.film, places)
    figures |= speed_ratios(figures["rows"], estimator["rows"])
    figures |= response(dream.film, places)
    figures["turn_rate_ratio"] = figures["steady_yaw"] / truth["steady_yaw"]
    figures["simulator_response"] = truth
    figures |= picture(dream, places)
    figures |= driving(dream, places)
    figures |= prompts(dream, probe, changes=extent.scenes)
    if extent.minutes > 0:
        figures |= long_streams(checkpoint, probe, extent)
    return figures


def driving(dream: Dream, places: list[Place]) -> dict[str, float]:
    """Roads and things over a minute of driving, and a driver who sees only the frames."""
    minute = 60 * LATENTS_PER_SECOND
    return (
        road_figures(dream.film, places, minute, dream.view)
        | passing_figures(dream.film, places, random_signal(minute, 9))
        | closed_loop(dream, starts(len(places), dream.view))
    )


def long_streams(checkpoint: Checkpoint, probe: Probe, extent: Extent) -> dict[str, Any]:
    """Drift of the longest stream, of one straight on, and of several of five minutes."""
    long = courses(extent.minutes, 1)
    straight = courses(min(extent.minutes, 10.0), 1, "D")
    many = courses(min(extent.minutes, 5.0), extent.horizon_seeds)
    drifts = horizon(checkpoint, None, probe, [*long, *straight, *many], extent.processes)
    return (
        summary("long", drifts[:1])
        | summary("straight", drifts[1:2])
        | summary("seeds", drifts[2:])
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    made.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("models/tiny"),
        help="holds stage3, stage4 (default models/tiny)",
    )
    made.add_argument(
        "--scenes", type=int, default=15, help="held-out scenes per experiment (default 15)"
    )
    made.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        help="of the longest stream; 30 for the target (0: none)",
    )
    made.add_argument(
        "--horizon-seeds", type=int, default=8, help="streams of 5 minutes beside it (default 8)"
    )
    made.add_argument(
        "--stages",
        nargs="+",
        choices=("stage3", "stage4"),
        default=["stage4"],
        help="a column each (default stage4; stage3, its teacher in 20 steps, takes long)",
    )
    made.add_argument(
        "--threads",
        type=int,
        default=2,
        help="of the CPU; as many long streams are driven side by side (default 2)",
    )
    made.add_argument("--json", type=Path, metavar="FILE")
    made.add_argument("--plots", type=Path, metavar="DIR")
    return made


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    use_threads(chosen.threads)
    begun = time.monotonic()
    extent = Extent(
        scenes=chosen.scenes,
        minutes=chosen.minutes,
        horizon_seeds=chosen.horizon_seeds,
        processes=chosen.threads,
    )
    results = [evaluate(chosen.folder, stage, extent) for stage in chosen.stages]
    print(table(results))
    print(f"{time.monotonic() - begun:.0f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))
    if chosen.plots:
        plot_response(results, chosen.plots)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

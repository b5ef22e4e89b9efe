"""Plots of figures and trainings: `python -m training.plots losses WORK`, or `history FILE ...`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from configs.errors import UserError, one_line_errors
from training.evaluation.report import TARGETS


def plot_response(results: list[dict[str, Any]], folder: Path) -> None:
    """response.png: turn rate after a key, per stage and in the simulator."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 3.2))
    curves = [(r["stage"], r["curve"]) for r in results] + [
        ("simulator", results[0]["simulator_response"]["curve"])
    ]
    for name, curve in curves:
        axes.plot((np.arange(len(curve)) - 31) / 16, curve, label=name)
    axes.set(xlabel="seconds after the key", ylabel="turn rate (rad/s)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "response.png", dpi=110)
    plt.close(figure)


def plot_history(
    files: Sequence[Path], targets: Mapping[str, tuple[float, float]], folder: Path
) -> None:
    """figures.png: every figure that has a target against the training step that an evaluation's
    file is named by."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted((int(path.stem), json.loads(path.read_text())[0]) for path in files)
    targets = {
        name: bounds
        for name, bounds in targets.items()
        if all(name in figures for _, figures in found)
    }
    figure, axes = plt.subplots(3, -(-len(targets) // 3), figsize=(12, 7), sharex=True)
    for axis, (name, bounds) in zip(axes.flat, targets.items(), strict=False):
        axis.plot([step for step, _ in found], [figures[name] for _, figures in found], marker="o")
        for bound in bounds:
            if 0 < bound < math.inf:
                axis.axhline(bound, color="grey", linestyle=":")
        axis.set_title(name.replace("_", " "), fontsize=9)
    for axis in axes.flat[len(targets) :]:
        axis.axis("off")
    figure.supxlabel("training step; dotted: target", fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / "figures.png", dpi=110)
    plt.close(figure)


def plot_training(work: Path, folder: Path) -> None:
    """losses.png: the logs of the trainings that were run in a work folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {
        "autoencoder": ("psnr",),
        "decoder": ("psnr", "dreamed_psnr"),
        "diffusion": ("loss", "held_out_error", "held_out_swapped"),
        "distill": ("group0", "group1"),
    }
    logs = {run: path for run in shown if (path := work / run / "log.jsonl").exists()}
    if not logs:
        raise UserError(
            f"losses {work}: expected the work folder of a training, "
            f"with a log in {' or '.join(shown)}"
        )
    figure, axes = plt.subplots(1, len(logs), figsize=(4 * len(logs), 3.2), squeeze=False)
    for axis, (run, path) in zip(axes[0], logs.items(), strict=True):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for name in shown[run]:
            points = [(line["step"], line[name]) for line in lines if name in line]
            if points:
                axis.plot(*zip(*points, strict=True), label=name)
        axis.set(title=run, xlabel="step")
        axis.legend()
    figure.tight_layout()
    figure.savefig(folder / "losses.png", dpi=110)
    plt.close(figure)


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(prog="python -m training.plots", description=__doc__)
    made.add_argument("--plots", type=Path, default=Path("."), metavar="DIR", help="where to write")
    kinds = made.add_subparsers(dest="kind", required=True)
    losses = kinds.add_parser("losses", help="the logs of a training's work folder")
    losses.add_argument("work", type=Path)
    history = kinds.add_parser("history", help="what evaluate --json wrote for several steps")
    history.add_argument("files", type=Path, nargs="+", metavar="STEP.json")
    chosen = made.parse_args(arguments)
    if chosen.kind == "losses":
        plot_training(chosen.work, chosen.plots)
    else:
        plot_history(chosen.files, TARGETS, chosen.plots)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Pictures of a trained world: strips for the documentation and plots of figures and trainings."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from tqdm import tqdm

from configs.errors import UserError
from models.checkpoint import served_stream
from models.controls import random_signal
from training.autoencoder import to_video
from training.captions import PRESET_SCENES, PRESETS
from training.clips import render_clip
from training.driving_world import FRAMES_PER_LATENT, FRAMES_PER_SECOND, Drive, Frame, Scene
from training.player import Player
from training.scenery import BIOMES, COLOURS, TIMES

HORIZON_MINUTES = 30


def _save(rows: Sequence[Sequence[Frame]], path: Path) -> None:
    gap = np.full((2, 1, 3), 255, np.uint8)
    lines = []
    for row in rows:
        cells = [np.pad(frame, ((0, 2), (0, 2), (0, 0)), constant_values=255) for frame in row]
        lines.append(np.concatenate(cells, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)[: -len(gap)]).quantize(256).save(path)


def render_strips(player: Player, folder: Path) -> None:
    """The strips of docs/training.md: simulator, reconstruction, turns, worlds, prompt and horizon,
    all .png."""
    _save(_simulated(), folder / "simulator.png")
    _save(_reconstructions(player), folder / "reconstruction.png")
    rows = []
    for label in ("DL", "D", "DR"):
        player.begin(Scene("desert", "day", "red"), 3_100_000)
        rows.append(list(player.drive([label] * 16)[3::8]))
    _save(rows, folder / "turns.png")
    rows = []
    for k, prompt in enumerate(tqdm(PRESETS, desc="worlds", unit="prompt")):
        player.world.reset(k, player.embed(prompt), player.checkpoint.start_latents(prompt))
        script = ["D"] * 8 + ["DL"] * 10 + ["D"] * 6 + ["DR"] * 10 + ["D"] * 14
        rows.append(list(player.drive(script)[3 :: 6 * FRAMES_PER_LATENT]))
    _save(rows, folder / "worlds.png")
    first, second = 0, 8
    player.world.reset(
        1, player.embed(PRESETS[first]), player.checkpoint.start_latents(PRESETS[first])
    )
    before = player.drive(["D"] * 4)
    player.world.set_prompt(player.embed(PRESETS[second]))
    after = player.drive(["D"] * 16)
    _save([[*before[3::8], *after[3::8]]], folder / "prompt.png")
    _save(_first_and_last_minute(player, HORIZON_MINUTES), folder / "horizon.png")


def _first_and_last_minute(player: Player, minutes: int) -> list[list[Frame]]:
    """Two rows: a frame of every eight seconds in the first minute of a long random drive, and in
    the last one."""
    labels = random_signal(minutes * 240, 3)
    player.world.reset(3, player.embed(PRESETS[0]), player.checkpoint.start_latents(PRESETS[0]))
    first = player.drive(labels[:240])
    for label in tqdm(labels[240:-240], desc=f"{minutes} minutes", unit="latent"):
        player.world.step([label])
    return [
        list(frames[3 :: 8 * FRAMES_PER_SECOND]) for frames in (first, player.drive(labels[-240:]))
    ]


def _simulated() -> list[list[Frame]]:
    """Every biome and time of day in the simulator itself: straight, right, straight, left,
    reverse."""
    script = ["D"] * 6 + ["DR"] * 6 + ["D"] * 4 + ["DL"] * 6 + ["B"] * 10
    rows = []
    for k, (biome, time) in enumerate(itertools.product(BIOMES, TIMES)):
        drive = Drive(Scene(biome, time, COLOURS[k % len(COLOURS)]), k)
        rows.append([drive.frames(label)[-1] for label in script][3::4])
    return rows


def _reconstructions(player: Player) -> list[list[Frame]]:
    rows = []
    for k in range(len(PRESET_SCENES) // 2):
        frames = render_clip(4_100_000 + k, 12).frames
        made = served_stream(player.vae).push(
            player.vae.encode(to_video(frames)[None])[0].detach() * player.vae.scaling_factor
        )
        rows += [list(frames[11::9]), list(made[11::9])]
    return rows


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
            f"--losses {work}: expected the work folder of a training, with a log in {' or '.join(shown)}"
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

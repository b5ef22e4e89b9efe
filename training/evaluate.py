"""Measures a trained world against the simulator it learned from: `python -m training.evaluate
models/tiny`.

Streams run through `models.world.World` and the streaming decoder, exactly as they are served.
Scenes and seeds are held out. Prints a table; --json, --plots and --strips write the figures, their
curves and pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.controls import random_signal
from models.device import use_threads
from training import measure
from training.autoencoder import psnr
from training.captions import PRESET_SCENES, PRESETS
from training.clips import render_clip
from training.driving_world import FRAMES_PER_LATENT, Frame, Scene
from training.horizon import courses, horizon, summary
from training.player import Player, held_out_scenes, simulated
from training.scenery import BIOMES, COLOURS, TIMES

HOLD = 12  # latents: three seconds
BEFORE = 8  # latents of straight driving before a key
TARGETS = {  # the least and the most that a figure may be
    "reconstruction_db": (30.0, math.inf),
    "stream_50_yaw_left_ratio": (0.75, 1.25),
    "stream_50_yaw_right_ratio": (0.75, 1.25),
    "stream_50_straight": (0.9, math.inf),
    "yaw_sign_accuracy": (0.98, math.inf),
    "speed_class_accuracy": (0.9, math.inf),
    "response_seconds": (0.0, 0.15),
    "turn_rate_ratio": (0.8, 1.25),
    "prompt_at_start": (0.95, math.inf),
    "prompt_after_change": (0.95, math.inf),
    "horizon_long_inside": (1.0, math.inf),
    "horizon_straight_inside": (1.0, math.inf),
    "horizon_seeds_inside": (1.0, math.inf),
    "megabytes": (0.0, 40.0),
}


def reconstruction(player: Player, clips: int) -> dict[str, Any]:
    """PSNR of encoded and decoded held-out clips."""
    frames = np.stack([render_clip(4_000_000 + k, 12).frames for k in range(clips)])
    values = psnr(player.vae, frames)
    return {
        "reconstruction_db": float(values.mean()),
        "reconstruction_median_db": float(np.median(values)),
        "clips": clips,
    }


def motion(frames: Frame) -> tuple[float, float]:
    """(yaw in rad/s, speed in m/s) over the last second of some frames."""
    yaw = float(np.median(measure.yaw_rates(frames[-17:])))
    return yaw, measure.speed(frames[-9:], yaw)


def control(
    player: Player | None, scenes: list[tuple[Scene, int]], labels: Sequence[str]
) -> dict[str, Any]:
    """Counterfactuals: every label held for three seconds from the same state. player None = the
    simulator itself."""
    expected_yaw = {"": 0, "L": 1, "R": -1}
    rows: list[dict[str, Any]] = []
    for scene, seed in tqdm(scenes, desc="control", unit="scene"):
        for label in labels:
            held = [label] * HOLD
            if player is None:
                frames = simulated(scene, seed, held)
            else:
                player.begin(scene, seed)
                frames = player.drive(held)
            yaw, speed = motion(frames)
            rows.append(
                {"scene": [scene.biome, scene.time], "label": label, "yaw": yaw, "speed": speed}
            )
    ahead = [
        measure.yaw_class(r["yaw"]) == expected_yaw[r["label"][1:]]
        for r in rows
        if r["label"][0] == "D"
    ]
    back = [
        measure.yaw_class(r["yaw"]) == -expected_yaw[r["label"][1:]]
        for r in rows
        if r["label"] in ("BL", "BR")
    ]
    gears = [measure.speed_class(r["speed"]) == r["label"] for r in rows if len(r["label"]) == 1]
    means = {
        label: float(np.mean([r["yaw"] for r in rows if r["label"] == label])) for label in labels
    }
    return {
        "yaw_sign_accuracy": float(np.mean(ahead)),
        "speed_class_accuracy": float(np.mean(gears)),
        "reverse_turn_accuracy": float(np.mean(back)) if back else None,
        "mean_yaw": means,
        "rows": rows,
    }


def response(player: Player | None, scenes: list[tuple[Scene, int]]) -> dict[str, Any]:
    """From a key to half of its steady turn rate: seconds in the frames, and the median curve of
    all scenes."""
    curves = []
    for scene, seed in tqdm(scenes, desc="response", unit="scene"):
        for label, sign in (("DL", 1), ("DR", -1)):
            script = ["D"] * BEFORE + [label] * HOLD
            if player is None:
                frames = simulated(scene, seed, script)
            else:
                player.begin(scene, seed)
                frames = player.drive(script)
            curves.append(sign * measure.yaw_rates(frames, every=1, reach=9))
    curve = np.median(np.stack(curves), 0)
    key = BEFORE * FRAMES_PER_LATENT - 1  # curve[k] is the turn between frames k and k + 1
    steady = float(np.mean(curve[key + 16 : key + 48]))
    after = curve[key:]
    first = int(np.argmax(after >= steady / 2))
    return {
        "response_seconds": first / 16,
        "steady_yaw": steady,
        "curve": [round(float(v), 4) for v in curve],
    }


def stream_of_50(player: Player, scenes: list[tuple[Scene, int]]) -> dict[str, Any]:
    """Fifty latents of straight, left, straight, right: does the panorama turn as the simulator's
    does?"""
    script = ["D"] * 10 + ["DL"] * 12 + ["D"] * 8 + ["DR"] * 12 + ["D"] * 8
    turned: dict[str, list[float]] = {"D": [], "DL": [], "DR": []}
    truth: dict[str, list[float]] = {"D": [], "DL": [], "DR": []}
    for scene, seed in tqdm(scenes, desc="50 latents", unit="scene"):
        player.begin(scene, seed)
        for found, frames in (
            (turned, player.drive(script)),
            (truth, simulated(scene, seed, script)),
        ):
            rates = measure.yaw_rates(frames)
            for k in range(1, len(script) - 1):
                if script[k] == script[k - 1] == script[k + 1]:
                    found[script[k]].append(float(rates[k - 1]))
    ratio = {label: float(np.mean(turned[label]) / np.mean(truth[label])) for label in ("DL", "DR")}
    straight = [abs(v) < measure.TURNED for v in turned["D"]]
    return {
        "stream_50_yaw_left_ratio": ratio["DL"],
        "stream_50_yaw_right_ratio": ratio["DR"],
        "stream_50_straight": float(np.mean(straight)),
        "mean_yaw": {label: float(np.mean(v)) for label, v in turned.items()},
    }


def prompts(player: Player, probe: measure.Probe, changes: int) -> dict[str, Any]:
    """Each preset after two seconds from its start clip, and after up to ten seconds of another
    preset's prompt."""
    at_start, changed = [], []
    for k, (prompt, scene) in enumerate(
        tqdm(list(zip(PRESETS, PRESET_SCENES, strict=True)), desc="prompts", unit="prompt")
    ):
        player.world.reset(k, player.embed(prompt), player.checkpoint.start_latents(prompt))
        frames = player.drive(["D"] * 8)
        at_start.append(_named(probe, frames[-1:], scene))
        if k >= changes:
            continue
        other = (k * 4 + 7) % len(PRESETS)
        player.world.set_prompt(player.embed(PRESETS[other]))
        frames = player.drive((["D"] * 6 + ["DL"] * 4) * 4)
        changed.append(_named(probe, frames[-1:], PRESET_SCENES[other]))
    return {
        "prompt_at_start": float(np.mean(at_start)),
        "prompt_after_change": float(np.mean(changed)),
        "after_change_by_kind": dict(
            zip(("biome", "time", "colour"), np.mean(changed, 0).tolist(), strict=True)
        ),
    }


def _named(probe: measure.Probe, frames: Frame, scene: Scene) -> list[bool]:
    wanted = (BIOMES.index(scene.biome), TIMES.index(scene.time), COLOURS.index(scene.colour))
    return (probe.name(frames)[0] == np.array(wanted)).tolist()


def grid(folder: Path, stage: str, scenes: int) -> list[dict[str, Any]]:
    """What late labels do: the weights' noise groups with the newest 1, 2, ... groups following the
    newest key."""
    rows = []
    checkpoint = Checkpoint.open(folder / stage)
    chosen, probe = held_out_scenes(scenes), measure.fitted_probe()[0]
    for late in range(1, checkpoint.streaming.noise_groups + 1):
        player = Player(checkpoint, late)
        player.begin(*chosen[0])
        rows.append(
            {
                "noise_groups": checkpoint.streaming.noise_groups,
                "late_labels": late,
                "response_seconds": response(player, chosen)["response_seconds"],
                "yaw_sign_accuracy": control(player, chosen, ("D", "DL", "DR"))[
                    "yaw_sign_accuracy"
                ],
                "sharpness": measure.Look.of(player.drive(random_signal(48, 5)), probe).sharpness,
                "horizon": horizon(checkpoint, late, probe, courses(5.0, 1), 1)[0].stream,
            }
        )
    return rows


def megabytes(folder: Path) -> float:
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file()) / 1e6


def passes(name: str, value: float) -> bool:
    least, most = TARGETS[name]
    return least <= value <= most


def evaluate(
    folder: Path, stage: str, scenes: int, minutes: float, horizon_seeds: int, processes: int
) -> dict[str, Any]:
    """All figures of one stage's weights. processes: long streams driven side by side."""
    checkpoint = Checkpoint.open(folder / stage)
    player = Player(checkpoint)
    chosen = held_out_scenes(scenes)
    labels = ("D", "DL", "DR", "B", "BL", "BR", "N", "NL", "NR")
    figures: dict[str, Any] = {"stage": stage, "scenes": scenes, "megabytes": megabytes(folder)}
    figures |= reconstruction(player, scenes)
    figures["estimator"] = {k: v for k, v in control(None, chosen, labels).items() if k != "rows"}
    figures |= {
        f"stream50_{k}" if k == "mean_yaw" else k: v
        for k, v in stream_of_50(player, chosen).items()
    }
    figures |= control(player, chosen, labels)
    truth = response(None, chosen)
    figures |= response(player, chosen)
    figures["turn_rate_ratio"] = figures["steady_yaw"] / truth["steady_yaw"]
    figures["simulator_response"] = truth
    probe, accuracy = measure.fitted_probe()
    figures["probe_accuracy"] = accuracy
    figures |= prompts(player, probe, changes=scenes)
    if minutes > 0:
        long, many = courses(minutes, 1), courses(min(minutes, 5.0), horizon_seeds)
        straight = courses(min(minutes, 10.0), 1, "D")
        drifts = horizon(checkpoint, None, probe, [*long, *straight, *many], processes)
        figures |= (
            summary("long", drifts[:1])
            | summary("straight", drifts[1:2])
            | summary("seeds", drifts[2:])
        )
    return figures


def table(results: list[dict[str, Any]]) -> str:
    """The figures with targets, a column per stage, and what the horizons are made of."""
    lines = [f"{'figure':28}{'target':>12}" + "".join(f"{r['stage']:>12}" for r in results)]
    for name, (least, most) in TARGETS.items():
        if not all(name in r for r in results):
            continue  # no long streams were asked for
        wanted = f">= {least:g}" if most == math.inf else f"{least:g} to {most:g}"
        cells = "".join(
            f"{r[name]:>9.3f} {'ok' if passes(name, r[name]) else '--'}" for r in results
        )
        lines.append(f"{name:28}{wanted:>12}{cells}")
    for r in results:
        lines.append(
            f"{r['stage']}: estimator on simulator frames: yaw {r['estimator']['yaw_sign_accuracy']:.3f}, "
            f"speed {r['estimator']['speed_class_accuracy']:.3f}; probe {r['probe_accuracy']:.3f}"
        )
        lines += [f"{r['stage']}: {k}: {v}" for k, v in r.items() if k.startswith("horizon_")]
    return "\n".join(lines)


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
        "--grid", action="store_true", help="only compare late labels 1, 2, ... of the same weights"
    )
    made.add_argument(
        "--losses", type=Path, metavar="WORK", help="only plot the logs of a training's work folder"
    )
    made.add_argument(
        "--history",
        type=Path,
        nargs="+",
        metavar="STEP.json",
        help="only plot what --json wrote for several steps",
    )
    made.add_argument(
        "--stages",
        nargs="+",
        choices=("stage3", "stage4"),
        default=["stage4"],
        help="a column each (default stage4; stage3, its teacher in 20 steps, takes about ten times as long)",
    )
    made.add_argument(
        "--threads",
        type=int,
        default=2,
        help="of the CPU; as many long streams are driven side by side (default 2)",
    )
    made.add_argument("--json", type=Path, metavar="FILE")
    made.add_argument("--plots", type=Path, metavar="DIR")
    made.add_argument(
        "--strips",
        type=Path,
        nargs="?",
        const=Path("docs/pictures"),
        metavar="DIR",
        help="only render the picture strips (into docs/pictures unless told otherwise)",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    use_threads(chosen.threads)
    try:
        if chosen.strips:
            from training.strips import render_strips

            render_strips(Player(Checkpoint.open(chosen.folder / "stage4")), chosen.strips)
            return 0
        if chosen.losses:
            from training.strips import plot_training

            plot_training(chosen.losses, chosen.plots or Path("."))
            return 0
        if chosen.history:
            from training.strips import plot_history

            plot_history(chosen.history, TARGETS, chosen.plots or Path("."))
            return 0
        if chosen.grid:
            for row in grid(chosen.folder, "stage4", chosen.scenes):
                print(json.dumps(row))
            return 0
        begin = time.monotonic()
        results = [
            evaluate(
                chosen.folder,
                stage,
                chosen.scenes,
                chosen.minutes,
                chosen.horizon_seeds,
                chosen.threads,
            )
            for stage in chosen.stages
        ]
        print(table(results))
        print(f"{time.monotonic() - begin:.0f} s")
        if chosen.json:
            chosen.json.write_text(json.dumps(results, indent=1))
        if chosen.plots:
            from training.strips import plot_response

            plot_response(results, chosen.plots)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

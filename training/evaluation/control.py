"""Does the world do what the labels say? Held labels, the moment after a key, and a drive of
curves, each also in the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from configs.geometry import FPS, FRAMES_PER_LATENT
from models.controls import LABELS
from training.evaluation import motion
from training.evaluation.dream import Dream
from training.evaluation.held_out import Film, Place, simulated

HOLD = 12  # latents: three seconds
BEFORE = 8  # latents of straight driving before a key
TURN = {"": 0, "L": 1, "R": -1}  # sign of the yaw that a label asks for; the other one in reverse
CURVES = ["D"] * 10 + ["DL"] * 12 + ["D"] * 8 + ["DR"] * 12 + ["D"] * 8


class Held(NamedTuple):
    """What a label held for three seconds came to: yaw [rad/s] and speed [m/s] of its last one."""

    scene: list[str]
    label: str
    yaw: float
    speed: float


def held_labels(film: Film, places: list[Place], labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Counterfactuals: every label held for three seconds from the same state."""
    rows = [
        Held([scene.biome, scene.time], label, *motion.at_end(film(scene, seed, [label] * HOLD)))
        for scene, seed in tqdm(places, desc="control", unit="scene")
        for label in labels
    ]
    ahead = [motion.yaw_class(r.yaw) == TURN[r.label[1:]] for r in rows if r.label[0] == "D"]
    back = [motion.yaw_class(r.yaw) == -TURN[r.label[1:]] for r in rows if r.label in ("BL", "BR")]
    gears = [motion.speed_class(r.speed) == r.label for r in rows if len(r.label) == 1]
    yaws = {label: float(np.mean([r.yaw for r in rows if r.label == label])) for label in labels}
    return {
        "yaw_sign_accuracy": float(np.mean(ahead)),
        "speed_class_accuracy": float(np.mean(gears)),
        "reverse_turn_accuracy": float(np.mean(back)) if back else None,
        "mean_yaw": yaws,
        "rows": [row._asdict() for row in rows],
    }


def speed_ratios(rows: list[dict[str, Any]], true: list[dict[str, Any]]) -> dict[str, float]:
    """Speed under D and B, straight, over the simulator's, and the share of places where N stands
    still; rows of `held_labels`, of a dream and of the simulator."""

    def mean(found: list[dict[str, Any]], label: str) -> float:
        return float(np.mean([row["speed"] for row in found if row["label"] == label]))

    still = [motion.speed_class(row["speed"]) == "N" for row in rows if row["label"] == "N"]
    ratios = {f"speed_{label}": mean(rows, label) / mean(true, label) for label in ("D", "B")}
    return {**ratios, "speed_N_stands": float(np.mean(still))}


def response(film: Film, places: list[Place]) -> dict[str, Any]:
    """From a key to half of its steady turn rate: seconds in the frames, and the median curve of
    all scenes."""
    curves = []
    for scene, seed in tqdm(places, desc="response", unit="scene"):
        for label in ("DL", "DR"):
            frames = film(scene, seed, ["D"] * BEFORE + [label] * HOLD)
            curves.append(TURN[label[1:]] * motion.yaw_rates(frames, every=1, reach=9))
    curve = np.median(np.stack(curves), 0)
    key = BEFORE * FRAMES_PER_LATENT - 1  # curve[k] is the turn between frames k and k + 1
    steady = float(np.mean(curve[key + 16 : key + 48]))
    first = int(np.argmax(curve[key:] >= steady / 2))
    return {
        "response_seconds": first / FPS,
        "steady_yaw": steady,
        "curve": [round(float(v), 4) for v in curve],
    }


def stream_of_50(dream: Dream, places: list[Place]) -> dict[str, Any]:
    """Fifty latents of straight, left, straight, right: does the panorama turn as the simulator's
    does?"""
    turned, truth = _turns(dream.film, places), _turns(simulated, places)
    ratio = {label: float(np.mean(turned[label]) / np.mean(truth[label])) for label in ("DL", "DR")}
    return {
        "stream_50_yaw_left_ratio": ratio["DL"],
        "stream_50_yaw_right_ratio": ratio["DR"],
        "stream_50_straight": float(np.mean([abs(v) < motion.TURNED for v in turned["D"]])),
        "stream50_mean_yaw": {label: float(np.mean(v)) for label, v in turned.items()},
    }


def _turns(film: Film, places: list[Place]) -> dict[str, list[float]]:
    """Yaw rates of CURVES by label, where the labels before and after are the same."""
    found: dict[str, list[float]] = {"D": [], "DL": [], "DR": []}
    for scene, seed in tqdm(places, desc="50 latents", unit="scene"):
        rates = motion.yaw_rates(film(scene, seed, CURVES))
        for k in range(1, len(CURVES) - 1):
            if CURVES[k] == CURVES[k - 1] == CURVES[k + 1]:
                found[CURVES[k]].append(float(rates[k - 1]))
    return found

"""How a dream looks beside the simulator: edges, patches, and the true frames of the first seconds."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from models.controls import random_signal
from training.evaluation.dream import Dream
from training.evaluation.fidelity import Fidelity, fidelity
from training.evaluation.held_out import Place, simulated
from training.evaluation.patches import patch_distance
from training.evaluation.sharpness import edge_ratios

SECONDS = 10  # of each drive
ELSEWHERE = 50  # from the seed of a place to that of another one of its scene


def picture(dream: Dream, places: list[Place]) -> dict[str, float]:
    """All figures of the picture, over drives under random labels."""
    labels = random_signal(SECONDS * LATENTS_PER_SECOND, 7)
    dreamed = edge_ratios(dream.film, places, labels)
    again = edge_ratios(dream.reconstructed, places, labels)
    return {
        **dreamed,
        "edges_reconstructed": again["edges"],
        "edges_reconstructed_least": again["edges_least"],
        **_patches(dream, places, labels),
        **_true_frames(dream, places, labels),
    }


def _patches(dream: Dream, places: list[Place], labels: list[str]) -> dict[str, float]:
    """Patch distances from the simulator: dreamed, reconstructed and, the floor, the simulator
    elsewhere; the first over the last."""
    found: dict[str, list[float]] = {"dreamed": [], "reconstructed": [], "floor": []}
    for scene, seed in tqdm(places, desc="patches", unit="scene"):
        true = simulated(scene, seed, labels, view=dream.view)
        shown = {
            "dreamed": dream.film(scene, seed, labels),
            "reconstructed": dream.reconstructed(scene, seed, labels),
            "floor": simulated(scene, seed + ELSEWHERE, labels, view=dream.view),
        }
        for name, frames in shown.items():
            found[name].append(patch_distance(frames, true))
    means = {f"patches_{name}": float(np.mean(values)) for name, values in found.items()}
    return {**means, "patches_ratio": means["patches_dreamed"] / means["patches_floor"]}


def _true_frames(dream: Dream, places: list[Place], labels: list[str]) -> dict[str, float]:
    """Fidelity of reconstructions, and of the dreams' frames of the 1st and of the 4th second."""
    found: dict[str, list[Fidelity]] = {"reconstructed": [], "dream_1s": [], "dream_4s": []}
    second = LATENTS_PER_SECOND * FRAMES_PER_LATENT
    for scene, seed in tqdm(places, desc="true frames", unit="scene"):
        true = simulated(scene, seed, labels, view=dream.view)[: 4 * second]
        again = dream.reconstructed(scene, seed, labels)[: 4 * second]
        dreamed = dream.film(scene, seed, labels[: 4 * LATENTS_PER_SECOND])
        found["reconstructed"].append(fidelity(again, true))
        found["dream_1s"].append(fidelity(dreamed[:second], true[:second]))
        found["dream_4s"].append(fidelity(dreamed[3 * second :], true[3 * second :]))
    return {
        f"{name}_{kind}": float(np.mean([getattr(value, kind) for value in values]))
        for name, values in found.items()
        for kind in Fidelity._fields
    }

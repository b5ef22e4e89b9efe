"""Clips of the driving world on disk: rendered frames first, then the latents an autoencoder makes
of them.

A shard is a folder-free pair of files, `NNNN.npz` (frames and what is known about them) and later
`NNNN.safetensors` (latents). Shards are written once, atomically, so rendering and encoding resume
where they were stopped. Shard k of n clips each holds seeds k n, k n + 1, ...; held-out clips start
at HELD_OUT_SEED.
"""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from models.controls import LABELS
from training.drivers import random_labels, road_label
from training.scene import Scene
from training.simulator import Simulator
from training.view import SMALL, View

HELD_OUT_SEED = 1_000_000
CHANGE_SHARE = 0.6  # of clips turn into another scene on the way
WANDER_SHARE = 0.2  # of the labels of a driver who follows a road are drawn all the same


@dataclass(frozen=True)
class Recording:
    """How clips are recorded: of so many latents, in what size; the share of clips whose driver
    follows a road. A shard k has seeds first_seed + k clips, ..."""

    latents: int
    view: View = SMALL
    road_share: float = 0.35
    clips: int = 1  # a shard
    first_seed: int = 0


@dataclass(frozen=True)
class Clip:
    """frames uint8 [4n, H, W, 3]; labels [n] and scenes [n, 3] per latent; motion [4n, 2] (m/s,
    rad/s) per frame."""

    frames: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]
    scenes: npt.NDArray[np.int8]
    motion: npt.NDArray[np.float32]


def render_clip(seed: int, how: Recording) -> Clip:
    """One clip of a lively drive; the same seed gives the same clip."""
    rng, latents, view = np.random.default_rng((seed, 1)), how.latents, how.view
    scene = Scene.random(rng)
    drive = Simulator(scene, seed, view)
    labels = random_labels(rng, latents)
    for _ in range(int(rng.integers(0, 24))):
        drive.car = drive.car.moved(labels[0])
    on_road = rng.random() < how.road_share
    change = (
        int(rng.integers(6, latents - 6))
        if latents >= 16 and rng.random() < CHANGE_SHARE
        else latents
    )
    frames = np.empty((latents * FRAMES_PER_LATENT, view.height, view.width, 3), np.uint8)
    scenes, motion = np.empty((latents, 3), np.int8), np.empty((len(frames), 2), np.float32)
    for k, label in enumerate(labels):
        if k == change:
            other = Scene.random(rng)
            kept = rng.random(3) < 0.4
            scene = Scene(
                *(
                    old if keep else new
                    for keep, old, new in zip(kept, vars(scene).values(), vars(other).values())
                )
            )
            drive.change(scene)
        if on_road and rng.random() >= WANDER_SHARE:
            labels[k] = label = road_label(drive.car, scene.biome)
        scenes[k] = scene.ids
        for f in range(k * FRAMES_PER_LATENT, (k + 1) * FRAMES_PER_LATENT):
            frames[f] = drive.frame(label)
            motion[f] = drive.car.speed, drive.car.yaw
    return Clip(
        frames, np.array([LABELS.index(label) for label in labels], np.int8), scenes, motion
    )


def _render_shard(path: Path, how: Recording) -> None:
    first = how.first_seed + int(path.stem) * how.clips
    clips = [render_clip(first + i, how) for i in range(how.clips)]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        arrays: dict[str, Any] = {
            name: np.stack([getattr(clip, name) for clip in clips])
            for name in Clip.__dataclass_fields__
        }
        np.savez(file, **arrays)
    os.replace(partial, path)


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """What a rendered shard holds, by name. Raises UserError for one that is damaged."""
    try:
        with np.load(path) as shard:
            return dict(shard)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: damaged ({str(error)[:80]}); delete it, repeat the command"
        ) from None


def render(
    shards: Sequence[Path], how: Recording, processes: int = 1, minutes: float | None = None
) -> bool:
    """Makes those of the shards FOLDER/NNNN.npz that are not there yet; False when the minutes were
    over first, with one shard made at least."""
    missing = [path for path in shards if not path.exists()]
    if not missing:
        return True
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    missing[0].parent.mkdir(parents=True, exist_ok=True)
    others = set(active_children())
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_render_shard, path, how) for path in missing]
        try:
            for job in tqdm(jobs, desc=f"render {missing[0].parent.name}", unit="shard"):
                job.result()
                if time.monotonic() > end:
                    pool.shutdown(cancel_futures=True)
                    break
        except KeyboardInterrupt:  # else every shard that waits would be made first
            for worker in set(active_children()) - others:
                worker.kill()
            raise
    return all(path.exists() for path in missing)

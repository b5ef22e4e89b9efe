"""Long streams: is the look of the last minute further from the first than minutes of the simulator
are apart?

Each stream is a drive of its own, as it would be served; several run side by side, a process each.
The measure is the simulator under the same labels: its first and last minute in several places of
the same scene.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from tqdm import tqdm

from configs.geometry import LATENTS_PER_SECOND
from models.checkpoint import Checkpoint
from models.controls import random_signal
from models.device import use_threads
from training.evaluation.dream import Dream
from training.evaluation.held_out import held_out_scenes, simulated
from training.evaluation.look import Look
from training.evaluation.probe import Probe
from training.scene import Scene
from training.view import SMALL, View

MINUTE = 60 * LATENTS_PER_SECOND  # latents
PLACES = 8  # of the simulator, whose minutes are compared with each other

Distance = dict[str, float]  # of two looks: colour, contrast, sharpness, features


@dataclass(frozen=True)
class Course:
    """A long drive: the state it starts from and a label per latent. Minutes of short drives are
    half of the drive."""

    scene: Scene
    seed: int
    labels: tuple[str, ...]

    @property
    def minute(self) -> int:
        """Latents of the first and of the last minute."""
        return min(MINUTE, len(self.labels) // 2)


@dataclass(frozen=True)
class Drift:
    """Last minute against first: of a stream, at the widest in the simulator, and whether each is
    inside.

    simulator_inside: the share of places whose own first and last minute are no further apart than
    those of the others; it says what the test asks for, since a perfect model is the simulator.
    segments_inside: the share of all minutes after the first that are inside.
    """

    stream: Distance
    simulator: Distance
    inside: bool
    simulator_inside: float
    segments_inside: float


def courses(minutes: float, count: int, signal: str = "random") -> list[Course]:
    """Held-out drives of so many minutes, under random labels or straight on (signal "D")."""
    latents = int(minutes * MINUTE)
    return [
        Course(
            scene, seed, tuple(random_signal(latents, k) if signal == "random" else ["D"] * latents)
        )
        for k, (scene, seed) in enumerate(held_out_scenes(count, seed=23))
    ]


def horizon(
    checkpoint: Checkpoint,
    late_labels: int | None,
    probe: Probe,
    drives: Sequence[Course],
    processes: int,
) -> list[Drift]:
    """The drift of every drive, in the order given."""
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=use_threads, initargs=(1,)
    ) as pool:
        jobs = [pool.submit(_drift, checkpoint, late_labels, probe, course) for course in drives]
        return [job.result() for job in tqdm(jobs, desc="horizon", unit="stream")]


def summary(name: str, drifts: Sequence[Drift]) -> dict[str, Any]:
    """Means over streams, and the share of them that is inside; the streams' own figures under
    `name`_streams."""
    return {
        f"horizon_{name}": _mean([d.stream for d in drifts]),
        f"horizon_{name}_simulator": _mean([d.simulator for d in drifts]),
        f"horizon_{name}_inside": float(np.mean([d.inside for d in drifts])),
        f"horizon_{name}_simulator_inside": float(np.mean([d.simulator_inside for d in drifts])),
        f"horizon_{name}_segments": float(np.mean([d.segments_inside for d in drifts])),
        f"streams_{name}": [[d.stream, d.simulator, d.inside] for d in drifts],
    }


def _drift(checkpoint: Checkpoint, late_labels: int | None, probe: Probe, course: Course) -> Drift:
    dream = Dream(checkpoint, late_labels)
    dream.start_in(course.scene, course.seed)
    labels, minute = course.labels, course.minute
    looks = [Look.of(dream.drive(labels[:minute]), probe)]
    for label in labels[minute : minute + len(labels) % minute]:
        dream.world.step([label])
    for k in range(minute + len(labels) % minute, len(labels), minute):
        looks.append(Look.of(dream.drive(labels[k : k + minute]), probe))
    distances = [looks[0].distance(look) for look in looks[1:]]
    pairs = _simulator_pairs(course, probe, dream.view)
    widest = _widest([pair for row in pairs for pair in row])
    return Drift(
        stream=distances[-1],
        simulator=widest,
        inside=_inside(distances[-1], widest),
        simulator_inside=_simulator_inside(pairs),
        segments_inside=float(np.mean([_inside(distance, widest) for distance in distances])),
    )


def _simulator_pairs(course: Course, probe: Probe, view: View = SMALL) -> list[list[Distance]]:
    """Distances of the simulator's first minute in one place from its last minute in another:
    [PLACES][PLACES]."""
    labels, minute = course.labels, course.minute
    places = [course.seed + 50 * k for k in range(PLACES)]
    firsts, lasts = (
        [Look.of(simulated(course.scene, place, part, view=view), probe) for place in places]
        for part in (labels[:minute], labels[-minute:])
    )
    return [[first.distance(last) for last in lasts] for first in firsts]


def _simulator_inside(pairs: list[list[Distance]]) -> float:
    """The share of places whose own pair is inside what the other places' minutes span."""
    others = [
        _widest(
            [
                pairs[a][b]
                for a, b in itertools.product(range(len(pairs)), repeat=2)
                if k not in (a, b)
            ]
        )
        for k in range(len(pairs))
    ]
    return float(np.mean([_inside(pairs[k][k], others[k]) for k in range(len(pairs))]))


def _widest(distances: Sequence[Distance]) -> Distance:
    return {name: max(d[name] for d in distances) for name in distances[0]}


def _inside(distance: Distance, widest: Distance) -> bool:
    return all(distance[name] <= widest[name] for name in distance)


def _mean(distances: Sequence[Distance]) -> Distance:
    return {name: float(np.mean([d[name] for d in distances])) for name in distances[0]}

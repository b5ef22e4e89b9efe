"""Scenes and places that training never saw, and the simulator there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from configs.geometry import FRAMES_PER_LATENT
from training.captions import caption, scene_of
from training.scene import BIOMES, COLOURS, TIMES, Scene
from training.simulator import Frame, Simulator
from training.view import SMALL, View

WARM = 8  # latents straight on before a film begins: the start of a stream is encoded from them
Place = tuple[Scene, int]  # a scene and the seed of its world
# What is filmed from a held-out state, a label per latent: the simulator, or a dream.
Film = Callable[[Scene, int, Sequence[str]], Frame]


def held_out_scenes(count: int, seed: int = 11) -> list[Place]:
    """Scenes that go round biomes and times of day, with seeds that training never saw."""
    rng = np.random.default_rng(seed)
    return [
        (
            Scene(
                BIOMES[k % len(BIOMES)],
                TIMES[(k // len(BIOMES) + k % len(BIOMES)) % len(TIMES)],
                str(rng.choice(COLOURS)),
            ),
            3_000_000 + 17 * seed + k,
        )
        for k in range(count)
    ]


def whole_caption(scene: Scene, seed: int) -> str:
    """A random caption that names biome, time and colour: what a prompt leaves open, a world is
    free to change."""
    rng = np.random.default_rng(seed)
    while scene_of(text := caption(scene, rng), Scene("", "", "")) != scene:
        pass
    return text


def simulated(
    scene: Scene, seed: int, labels: Sequence[str], warm: int = WARM, view: View = SMALL
) -> Frame:
    """What the simulator shows where `Dream.film` shows the model: frames [4 n, H, W, 3]."""
    drive = Simulator(scene, seed, view)
    drive.frames("D", warm * FRAMES_PER_LATENT)
    return np.concatenate([drive.frames(label) for label in labels])

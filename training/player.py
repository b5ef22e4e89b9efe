"""A trained world, streamed as it is served, from held-out states; and the simulator from the same
states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import Checkpoint, served_stream
from models.device import pick_device, pick_dtype
from models.tae import TinyVAE
from models.world import World
from training.autoencoder import to_video
from training.captions import caption, scene_of
from training.driving_world import FRAMES_PER_LATENT, Drive, Frame, Scene
from training.scenery import BIOMES, COLOURS, TIMES


@dataclass
class Player:
    """A weight folder, loaded to be streamed again and again. late_labels: None = as the weights
    say."""

    checkpoint: Checkpoint
    late_labels: int | None = None
    world: World = field(init=False)
    vae: TinyVAE = field(init=False)

    def __post_init__(self) -> None:
        self.device = pick_device()
        dtype = pick_dtype("auto", self.device)
        settings = self.checkpoint.streaming
        if self.late_labels is not None:
            settings = replace(settings, late_labels=self.late_labels)
        self.world = World(
            self.checkpoint,
            device=self.device,
            dtype=dtype,
            settings=settings,
            guidance=settings.served_guidance,
        )
        self.vae = self.checkpoint.autoencoder(self.device, dtype)  # type: ignore[assignment]
        self.text = self.checkpoint.text_encoder(self.device, dtype)
        self.starts: dict[tuple[Scene, int], Tensor] = {}

    def embed(self, prompt: str) -> Tensor:
        """The prompt's embedding and, for guidance, the empty prompt's: [2, N_t, Dt]."""
        return self.text.encode([prompt, ""])

    def begin(self, scene: Scene, seed: int, warm: int = 8) -> None:
        """Resets the world to a held-out drive of the scene, straight on, its start encoded from
        simulator frames."""
        if (scene, seed) not in self.starts:
            frames = Drive(scene, seed).frames("D", warm * FRAMES_PER_LATENT)
            with torch.inference_mode():
                latents = self.vae.encode(to_video(frames)[None].to(self.device))[0, 3:]
            self.starts[scene, seed] = latents * self.vae.scaling_factor
        self.world.reset(seed, self.embed(whole_caption(scene, seed)), self.starts[scene, seed])

    def drive(self, labels: Sequence[str]) -> Frame:
        """Frames [4 n, H, W, 3] of one label per latent."""
        stream = served_stream(self.vae)
        return np.concatenate([stream.push(self.world.step([label]).latents) for label in labels])


def held_out_scenes(count: int, seed: int = 11) -> list[tuple[Scene, int]]:
    """Scenes that go round biomes and times of day, with seeds that training never saw."""
    rng = np.random.default_rng(seed)
    return [
        (
            Scene(
                BIOMES[k % len(BIOMES)],
                TIMES[(k // len(BIOMES) + k) % len(TIMES)],
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


def simulated(scene: Scene, seed: int, labels: Sequence[str], warm: int = 8) -> Frame:
    """What the simulator shows where `Player.begin` and `drive` show the model."""
    drive = Drive(scene, seed)
    drive.frames("D", warm * FRAMES_PER_LATENT)
    return np.concatenate([drive.frames(label) for label in labels])

"""A trained world, streamed as it is served, from held-out states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from configs.geometry import FRAMES_PER_LATENT
from models.checkpoint import Checkpoint
from models.device import pick_device
from models.engines.choose import with_engine
from models.frames import StreamDecoder
from models.parts import Parts
from models.tae import TinyVAE
from models.world import World
from training.autoencoder import to_video
from training.evaluation.held_out import WARM, Place, simulated, whole_caption
from training.scene import Scene
from training.simulator import Frame, Simulator
from training.view import View

START_AFTER = 3  # latents of the warm-up: before them the encoder's memory is still filling


@dataclass
class Dream:
    """A weight folder, loaded to be streamed again and again. late_labels: None = as the weights
    say."""

    checkpoint: Checkpoint
    late_labels: int | None = None
    world: World = field(init=False)
    vae: TinyVAE = field(init=False)
    encode: Callable[[Sequence[str]], Tensor] = field(init=False)
    decoder: Callable[[], StreamDecoder] = field(init=False)
    starts: dict[Place, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        device = pick_device()
        settings = self.checkpoint.streaming
        if self.late_labels is not None:
            settings = replace(settings, late_labels=self.late_labels)
        parts = Parts(with_engine(self.checkpoint, device), device)  # as people see it
        self.world, self.encode = parts.world(settings), parts.encode
        self.decoder = parts.decoder
        vae = parts.autoencoder
        assert isinstance(vae, TinyVAE), "worlds of this recipe have the tiny autoencoder"
        self.vae = vae

    @property
    def view(self) -> View:
        """The simulator's picture that it learned from."""
        return View(self.vae.config.patch_size)

    def embed(self, prompt: str) -> Tensor:
        """The prompt's embedding and, for guidance, the empty prompt's: [2, N_t, Dt]."""
        return self.encode([prompt, ""])

    def start_in(self, scene: Scene, seed: int) -> None:
        """Resets the world to a held-out drive of the scene, straight on, its start encoded from
        simulator frames."""
        if (scene, seed) not in self.starts:
            frames = Simulator(scene, seed, self.view).frames("D", WARM * FRAMES_PER_LATENT)
            video = to_video(frames)[None].to(next(self.vae.parameters()).device)
            with torch.inference_mode():
                latents = self.vae.encode(video)[0, START_AFTER:]
            self.starts[scene, seed] = latents * self.vae.scaling_factor
        self.world.reset(seed, self.embed(whole_caption(scene, seed)), self.starts[scene, seed])

    def start_with(self, prompt: str, seed: int) -> None:
        """Resets the world to the start clip that the weights hold for a prompt."""
        self.world.reset(seed, self.embed(prompt), self.checkpoint.start_latents(prompt))

    def drive(self, labels: Sequence[str]) -> Frame:
        """The next frames [4 n, H, W, 3], one label per latent."""
        step = self.stepper()
        return np.concatenate([step(label) for label in labels])

    def stepper(self) -> Callable[[str], Frame]:
        """A call for each next label, which gives the next four frames: for a driver who looks."""
        stream = self.decoder()
        return lambda label: stream.push(self.world.step([label]).latents)

    def film(self, scene: Scene, seed: int, labels: Sequence[str]) -> Frame:
        """A drive from a held-out state: frames [4 n, H, W, 3]."""
        self.start_in(scene, seed)
        return self.drive(labels)

    def reconstructed(self, scene: Scene, seed: int, labels: Sequence[str]) -> Frame:
        """The simulator's frames of a drive, encoded and decoded: the best a dream could show."""
        frames = simulated(scene, seed, labels, view=self.view)
        video = to_video(frames)[None].to(next(self.vae.parameters()).device)
        with torch.inference_mode():
            latents = self.vae.encode(video)[0] * self.vae.scaling_factor
        return self.decoder().push(latents)

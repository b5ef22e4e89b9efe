"""Names biome, time of day and car colour in a frame: a linear probe, fitted on the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.scene import SIZES, Scene
from training.simulator import Frame, Simulator
from training.view import BASE_HEIGHT, BASE_WIDTH, SMALL, View, shrunk

MIDDLE = BASE_WIDTH // 2


def features(frames: Frame) -> Tensor:
    """What the scene probe looks at: [n, features] coarse colours of the whole frame, finer ones of
    the car."""
    video = torch.from_numpy(shrunk(frames)).movedim(-1, 1).float() / 255
    whole = torch.nn.functional.avg_pool2d(video, 8)
    rough = torch.nn.functional.avg_pool2d(
        (video - torch.nn.functional.interpolate(whole, scale_factor=8)).abs(), 12
    )
    car = torch.nn.functional.avg_pool2d(
        video[:, :, BASE_HEIGHT - 28 : BASE_HEIGHT - 4, MIDDLE - 20 : MIDDLE + 20], 4
    )
    return torch.cat([whole.flatten(1), rough.flatten(1), car.flatten(1)], 1)


@dataclass(frozen=True)
class Probe:
    """Names biome, time of day and car colour: linear, fitted on simulator frames only."""

    centre: Tensor
    spread: Tensor
    weights: Tensor

    @staticmethod
    def fit(frames: Frame, scenes: npt.NDArray[np.int8], ridge: float = 3.0) -> Probe:
        """frames [n, H, W, 3] with scenes [n, 3] (ids of biome, time, colour)."""
        x = features(frames)
        centre, spread = x.mean(0), x.std(0) + 0.02
        x = torch.cat([(x - centre) / spread, torch.ones(len(x), 1)], 1)
        ids = torch.from_numpy(scenes.astype(np.int64))
        targets = torch.cat(
            [torch.nn.functional.one_hot(ids[:, k], n) for k, n in enumerate(SIZES)], 1
        ).float()
        gram = x.T @ x + ridge * torch.eye(x.shape[1])
        return Probe(centre, spread, torch.linalg.solve(gram, x.T @ targets))

    def name(self, frames: Frame) -> npt.NDArray[np.int64]:
        """Frames of one moment [n, H, W, 3] -> [n, 3] ids of biome, time, colour."""
        x = (features(frames) - self.centre) / self.spread
        scores = torch.cat([x, torch.ones(len(x), 1)], 1) @ self.weights
        return torch.stack([part.argmax(1) for part in scores.split(list(SIZES), 1)], 1).numpy()


def fitted_probe(clips: int = 400, view: View = SMALL) -> tuple[Probe, float]:
    """The scene probe, fitted on simulator frames, and its accuracy on held-out simulator
    frames."""

    def sample(first: int, count: int) -> tuple[Frame, np.ndarray]:
        frames, ids = [], []
        for k in range(count):
            rng = np.random.default_rng((first, k))
            scene = Scene.random(rng)
            drive = Simulator(scene, first + k, view)
            for _ in range(int(rng.integers(40))):
                drive.car = drive.car.moved(str(rng.choice(["D", "DL", "DR"])))
            frames += [drive.frame("D"), drive.frames("DL" if k % 2 else "DR", 3)[-1]]
            ids += [scene.ids] * 2
        return np.stack(frames), np.array(ids, np.int8)

    probe = Probe.fit(*sample(5_000_000, clips))
    frames, ids = sample(6_000_000, 100)
    return probe, float((probe.name(frames) == ids).mean())

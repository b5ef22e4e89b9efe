"""Reads motion and scene back from frames. Each estimator is validated on simulator frames before
it judges a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.driving_world import CAMERA_HEIGHT, FRAMES_PER_SECOND, Drive, Frame, Scene
from training.scenery import BIOMES, COLOURS, FOCAL, HEIGHT, HORIZON, TIMES, WIDTH

Floats = npt.NDArray[np.float64]
STRIP = slice(3, HORIZON)  # rows of the picture at infinity
TURNED, STOOD = 0.12, 1.6  # rad/s beyond which a car turns; m/s below which it stands


def panorama_shift(before: Frame, after: Frame, reach: int) -> float:
    """Pixels by which the far picture moved to the right between two frames, to a fraction; |shift|
    <= reach.

    Compares horizontal gradients of the strip above the horizon, so brightness does not matter; the
    fit is refined by a parabola. A left turn moves the picture to the right.
    """
    first, second = (np.diff(f[STRIP].astype(np.float32).mean(-1), axis=1) for f in (before, after))
    scores = []
    for shift in range(-reach, reach + 1):
        a = first[:, max(0, -shift) : first.shape[1] - max(0, shift)]
        b = second[:, max(0, shift) : second.shape[1] - max(0, -shift)]
        scores.append(float((np.minimum(np.abs(a - b), 24.0)).mean()))
    best = int(np.argmin(scores))
    if 0 < best < len(scores) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        bend = left - 2 * middle + right
        return best - reach + (0.5 * (left - right) / bend if bend > 1e-9 else 0.0)
    return float(best - reach)


def yaw_rates(frames: Frame, every: int = 4, reach: int = 24) -> Floats:
    """Yaw in rad/s (left positive) between frames `every` apart: [(len(frames) - 1) // every]."""
    shifts = [
        panorama_shift(frames[k], frames[k + every], reach)
        for k in range(0, len(frames) - every, every)
    ]
    return np.array(shifts) / FOCAL * (FRAMES_PER_SECOND / every)


_ROWS = np.arange(HORIZON + 9, HEIGHT - 1)
_CANDIDATES = np.arange(-12.0, 14.01, 0.5)


def _ground_mask() -> npt.NDArray[np.bool_]:
    """Ground pixels that the car and its shadow do not cover."""
    mask = np.ones((len(_ROWS), WIDTH), bool)
    mask[np.ix_(_ROWS > HEIGHT - 34, np.abs(np.arange(WIDTH) - WIDTH / 2) < 30)] = False
    return mask


def _detail(frames: Frame) -> npt.NDArray[np.float32]:
    """Frames without their broad light: a headlight's pool travels with the camera, as if the car
    stood still."""
    video = torch.from_numpy(frames).movedim(-1, 1).float()
    broad = torch.nn.functional.avg_pool2d(video, 13, 1, 6, count_include_pad=False)
    return np.ascontiguousarray((video - broad).movedim(1, -1).numpy())


def speed(frames: Frame, yaw: float, step: int = 2) -> float:
    """Speed in m/s (forward positive) over some frames with a known yaw rate, from how the ground
    plane moves.

    The camera's height and view are known, so each candidate speed says where every ground pixel
    was `step` frames before; the candidate whose prediction fits best, summed over all frames,
    wins.
    """
    seconds = step / FRAMES_PER_SECOND
    depth = FOCAL * CAMERA_HEIGHT / (_ROWS + 0.5 - HORIZON)[:, None]
    left = -(np.arange(WIDTH) + 0.5 - WIDTH / 2)[None] / FOCAL * depth
    cos, sin = math.cos(yaw * seconds), math.sin(yaw * seconds)
    mask = _ground_mask()
    errors = np.zeros(len(_CANDIDATES))
    pictures = _detail(frames)
    for c, candidate in enumerate(_CANDIDATES):
        past_depth = candidate * seconds + depth * cos - left * sin
        past_left = depth * sin + left * cos
        row = HORIZON + FOCAL * CAMERA_HEIGHT / np.maximum(past_depth, 1e-3) - 0.5
        column = WIDTH / 2 - FOCAL * past_left / np.maximum(past_depth, 1e-3) - 0.5
        inside = (
            mask
            & (past_depth > 1)
            & (row < HEIGHT - 1)
            & (row > HORIZON + 1)
            & (column > 0)
            & (column < WIDTH - 1)
        )
        covered = (row > HEIGHT - 34) & (np.abs(column - WIDTH / 2) < 30)
        inside &= ~covered
        r, q = row[inside], column[inside]
        r0, q0 = r.astype(int), q.astype(int)
        tr, tq = (r - r0)[:, None].astype(np.float32), (q - q0)[:, None].astype(np.float32)
        y, x = np.nonzero(inside)
        total = 0.0
        for k in range(step, len(pictures)):
            old, new = pictures[k - step], pictures[k]
            sampled = (old[r0, q0] * (1 - tq) + old[r0, q0 + 1] * tq) * (1 - tr) + (
                old[r0 + 1, q0] * (1 - tq) + old[r0 + 1, q0 + 1] * tq
            ) * tr
            total += float(np.abs(sampled - new[_ROWS[y], x]).mean())
        errors[c] = total
    return float(_CANDIDATES[int(np.argmin(errors))])


def speed_class(value: float) -> str:
    """D, N or B."""
    return "N" if abs(value) <= STOOD else "D" if value > 0 else "B"


def yaw_class(value: float) -> int:
    """1 = left, -1 = right, 0 = straight."""
    return 0 if abs(value) < TURNED else int(math.copysign(1, value))


def features(frames: Frame) -> Tensor:
    """What the scene probe looks at: [n, features] coarse colours of the whole frame, finer ones of
    the car."""
    video = torch.from_numpy(frames).movedim(-1, 1).float() / 255
    whole = torch.nn.functional.avg_pool2d(video, 8)
    rough = torch.nn.functional.avg_pool2d(
        (video - torch.nn.functional.interpolate(whole, scale_factor=8)).abs(), 12
    )
    car = torch.nn.functional.avg_pool2d(
        video[:, :, HEIGHT - 28 : HEIGHT - 4, WIDTH // 2 - 20 : WIDTH // 2 + 20], 4
    )
    return torch.cat([whole.flatten(1), rough.flatten(1), car.flatten(1)], 1)


@dataclass(frozen=True)
class Probe:
    """Names biome, time of day and car colour: linear, fitted on simulator frames only."""

    centre: Tensor
    spread: Tensor
    weights: Tensor
    SIZES = (len(BIOMES), len(TIMES), len(COLOURS))

    @staticmethod
    def fit(frames: Frame, scenes: npt.NDArray[np.int8], ridge: float = 3.0) -> Probe:
        """frames [n, H, W, 3] with scenes [n, 3] (ids of biome, time, colour)."""
        x = features(frames)
        centre, spread = x.mean(0), x.std(0) + 0.02
        x = torch.cat([(x - centre) / spread, torch.ones(len(x), 1)], 1)
        ids = torch.from_numpy(scenes.astype(np.int64))
        targets = torch.cat(
            [torch.nn.functional.one_hot(ids[:, k], n) for k, n in enumerate(Probe.SIZES)], 1
        ).float()
        gram = x.T @ x + ridge * torch.eye(x.shape[1])
        return Probe(centre, spread, torch.linalg.solve(gram, x.T @ targets))

    def name(self, frames: Frame) -> npt.NDArray[np.int64]:
        """Frames of one moment [n, H, W, 3] -> [n, 3] ids of biome, time, colour."""
        x = (features(frames) - self.centre) / self.spread
        scores = torch.cat([x, torch.ones(len(x), 1)], 1) @ self.weights
        return torch.stack(
            [part.argmax(1) for part in scores.split(list(Probe.SIZES), 1)], 1
        ).numpy()


def fitted_probe(clips: int = 400) -> tuple[Probe, float]:
    """The scene probe, fitted on simulator frames, and its accuracy on held-out simulator
    frames."""

    def sample(first: int, count: int) -> tuple[Frame, np.ndarray]:
        frames, ids = [], []
        for k in range(count):
            rng = np.random.default_rng((first, k))
            scene = Scene.random(rng)
            drive = Drive(scene, first + k)
            for _ in range(int(rng.integers(40))):
                drive.car = drive.car.moved(str(rng.choice(["D", "DL", "DR"])))
            frames += [drive.frame("D"), drive.frames("DL" if k % 2 else "DR", 3)[-1]]
            ids += [
                (BIOMES.index(scene.biome), TIMES.index(scene.time), COLOURS.index(scene.colour))
            ] * 2
        return np.stack(frames), np.array(ids, np.int8)

    probe = Probe.fit(*sample(5_000_000, clips))
    frames, ids = sample(6_000_000, 100)
    return probe, float((probe.name(frames) == ids).mean())


@dataclass(frozen=True)
class Look:
    """What drifts when a stream decays: mean colour [3] in steps of 255, contrast, sharpness, mean
    probe features."""

    colour: Floats
    contrast: float
    sharpness: float
    features: Tensor

    @staticmethod
    def of(frames: Frame, probe: Probe) -> Look:
        video = frames.astype(np.float32)
        probed = (features(frames[:: FRAMES_PER_SECOND // 4]) - probe.centre) / probe.spread
        return Look(
            colour=video.mean((0, 1, 2)).astype(np.float64),
            contrast=float(video.std((1, 2, 3)).mean()),
            sharpness=float(np.abs(np.diff(video, axis=2)).mean()),
            features=probed.mean(0),
        )

    def distance(self, other: Look) -> dict[str, float]:
        """Colour and features as mean differences, contrast and sharpness as |log ratio|."""
        return {
            "colour": float(np.abs(self.colour - other.colour).mean()),
            "contrast": abs(math.log((other.contrast + 1e-6) / (self.contrast + 1e-6))),
            "sharpness": abs(math.log((other.sharpness + 1e-6) / (self.sharpness + 1e-6))),
            "features": float((self.features - other.features).square().mean().sqrt()),
        }

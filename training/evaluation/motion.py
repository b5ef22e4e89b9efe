"""Reads turn rate and speed back from frames. Each estimator is validated on simulator frames
before it judges a model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from configs.geometry import FPS
from training.simulator import Frame
from training.view import BASE_FOCAL as FOCAL
from training.view import BASE_HEIGHT as HEIGHT
from training.view import BASE_HORIZON as HORIZON
from training.view import BASE_WIDTH as WIDTH
from training.view import CAMERA_HEIGHT, shrunk

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
    frames = shrunk(frames)
    shifts = [
        panorama_shift(frames[k], frames[k + every], reach)
        for k in range(0, len(frames) - every, every)
    ]
    return np.array(shifts) / FOCAL * (FPS / every)


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
    video = torch.from_numpy(shrunk(frames)).movedim(-1, 1).float()
    broad = torch.nn.functional.avg_pool2d(video, 13, 1, 6, count_include_pad=False)
    return np.ascontiguousarray((video - broad).movedim(1, -1).numpy())


def speed(frames: Frame, yaw: float, step: int = 2) -> float:
    """Speed in m/s (forward positive) over some frames with a known yaw rate, from how the ground
    plane moves.

    The camera's height and view are known, so each candidate speed says where every ground pixel
    was `step` frames before; the candidate whose prediction fits best, summed over all frames,
    wins.
    """
    pictures = _detail(frames)
    errors = [_error(pictures, candidate, yaw, step) for candidate in _CANDIDATES]
    return float(_CANDIDATES[int(np.argmin(errors))])


def _error(pictures: npt.NDArray[np.float32], candidate: float, yaw: float, step: int) -> float:
    """Mean absolute difference of ground pixels from where they were, at a speed, `step` frames
    before; summed over frames."""
    y, x, r, q = _where_from(candidate, yaw, step / FPS)
    r0, q0 = r.astype(int), q.astype(int)
    tr, tq = (r - r0)[:, None].astype(np.float32), (q - q0)[:, None].astype(np.float32)
    total = 0.0
    for old, new in zip(pictures, pictures[step:], strict=False):
        sampled = (old[r0, q0] * (1 - tq) + old[r0, q0 + 1] * tq) * (1 - tr) + (
            old[r0 + 1, q0] * (1 - tq) + old[r0 + 1, q0 + 1] * tq
        ) * tr
        total += float(np.abs(sampled - new[_ROWS[y], x]).mean())
    return total


def _where_from(
    speed: float, yaw: float, seconds: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats, Floats]:
    """Ground pixels (index into _ROWS, column) and the row and column where they were `seconds`
    before; only those in sight then and now, and not behind the car."""
    depth = FOCAL * CAMERA_HEIGHT / (_ROWS + 0.5 - HORIZON)[:, None]
    left = -(np.arange(WIDTH) + 0.5 - WIDTH / 2)[None] / FOCAL * depth
    cos, sin = math.cos(yaw * seconds), math.sin(yaw * seconds)
    past_depth = speed * seconds + depth * cos - left * sin
    past_left = depth * sin + left * cos
    row = HORIZON + FOCAL * CAMERA_HEIGHT / np.maximum(past_depth, 1e-3) - 0.5
    column = WIDTH / 2 - FOCAL * past_left / np.maximum(past_depth, 1e-3) - 0.5
    inside = _ground_mask() & (past_depth > 1) & (row < HEIGHT - 1) & (row > HORIZON + 1)
    inside &= (column > 0) & (column < WIDTH - 1)
    inside &= ~((row > HEIGHT - 34) & (np.abs(column - WIDTH / 2) < 30))
    y, x = np.nonzero(inside)
    return y, x, row[inside], column[inside]


def speed_class(value: float) -> str:
    """D, N or B."""
    if abs(value) <= STOOD:
        return "N"
    return "D" if value > 0 else "B"


def yaw_class(value: float) -> int:
    """1 = left, -1 = right, 0 = straight."""
    return 0 if abs(value) < TURNED else int(math.copysign(1, value))


def at_end(frames: Frame) -> tuple[float, float]:
    """(yaw in rad/s, speed in m/s) over the last second of some frames."""
    yaw = float(np.median(yaw_rates(frames[-17:])))
    return yaw, speed(frames[-9:], yaw)

"""The view of the camera: how large a picture is, and where in it the horizon lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BASE_WIDTH, BASE_HEIGHT, BASE_HORIZON, BASE_FOCAL = 144, 96, 40, 108.0  # a view of 67 degrees
CAMERA_HEIGHT = 2.3  # metres


@dataclass(frozen=True)
class View:
    """A picture of 144 x 96 pixels, or a whole multiple of it, of the same field of view."""

    scale: int = 1

    @staticmethod
    def of(frames: npt.NDArray[np.generic]) -> View:
        """The view that frames [..., H, W, 3] were taken with."""
        return View(frames.shape[-2] // BASE_WIDTH)

    @property
    def width(self) -> int:
        return BASE_WIDTH * self.scale

    @property
    def height(self) -> int:
        return BASE_HEIGHT * self.scale

    @property
    def horizon(self) -> int:
        """The first row of the ground."""
        return BASE_HORIZON * self.scale

    @property
    def focal(self) -> float:
        """Pixels: something 1 m wide is so wide at a depth of 1 m."""
        return BASE_FOCAL * self.scale

    def ground(self) -> npt.NDArray[np.bool_]:
        """[H - horizon, W]: pixels of the ground that the car and its shadow do not cover."""
        rows = np.arange(self.horizon, self.height)[:, None] / self.scale
        beside = np.abs((np.arange(self.width) + 0.5) / self.scale - BASE_WIDTH / 2)
        return (rows < BASE_HEIGHT - 34) | (beside >= 30)[None]

    def depth(self) -> npt.NDArray[np.float32]:
        """Metres from the camera of what the ground's rows show: [H - horizon, 1]."""
        below = np.arange(self.height - self.horizon, dtype=np.float32)[:, None] + 0.5
        return np.asarray(self.focal * CAMERA_HEIGHT / below, np.float32)

    def right(self) -> npt.NDArray[np.float32]:
        """Metres to the right of the camera's axis of what the ground's pixels show:
        [H - horizon, W]."""
        lateral = (
            np.arange(self.width, dtype=np.float32)[None] + 0.5 - self.width / 2
        ) / self.focal
        return np.asarray(lateral * self.depth(), np.float32)


SMALL, LARGE = View(1), View(2)  # 144 x 96, 288 x 192


def averaged(pictures: npt.NDArray[np.generic], scale: int) -> npt.NDArray[np.float32]:
    """Pictures [n, h, w, ...] at a whole fraction of their size: means of scale x scale pixels."""
    count, height, width, *rest = pictures.shape
    blocks = (count, height // scale, scale, width // scale, scale, *rest)
    return np.asarray(pictures.reshape(blocks).mean((2, 4)), np.float32)


def shrunk(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frames uint8 [n, H, W, 3] of any view as they are in the small one, for what reads motion and
    scenes, not detail."""
    scale = View.of(frames).scale
    return frames if scale == 1 else averaged(frames, scale).round().astype(np.uint8)

"""The look of some frames: what drifts when a stream decays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from configs.geometry import FPS
from training.evaluation.probe import Probe, features
from training.simulator import Frame


@dataclass(frozen=True)
class Look:
    """What drifts when a stream decays: mean colour [3] in steps of 255, contrast, sharpness, mean
    probe features."""

    colour: npt.NDArray[np.float64]
    contrast: float
    sharpness: float
    features: Tensor

    @staticmethod
    def of(frames: Frame, probe: Probe) -> Look:
        video = frames.astype(np.float32)
        probed = (features(frames[:: FPS // 4]) - probe.centre) / probe.spread
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

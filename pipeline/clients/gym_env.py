"""The world as a Gymnasium environment: nine actions, a picture, four frames (0.25 s) a step. One
process, no Ray.

    env = gymnasium.make("TheMatrix/Drive-v0")        # after: import pipeline.clients.gym_env
    picture, info = env.reset(seed=7, options={"prompt": "A red car on a desert road"})
    picture, reward, terminated, truncated, info = env.step(DrivingEnv.action("DL"))

Needs the extra ``[gym]``. The world has no goal of its own: the reward is always 0 and an episode
never ends by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from configs.limits import check_prompt, check_seed
from models.checkpoint import Checkpoint
from models.controls import LABELS, label_id
from models.device import pick_device, use_threads
from models.folder import model_folder
from models.offline import clip_frames, stream_frames
from models.parts import Parts

SEEDS = 2**31 - 1  # worlds that a reset without a seed draws from


class DrivingEnv(gymnasium.Env[np.ndarray, np.int64]):
    """Discrete(9) actions are the control labels in the order of models.controls.LABELS;
    observations are uint8 [H, W, 3], the last of a step's four frames. ``info`` holds all of them
    ("frames" [4, H, W, 3]), the "latent" they came from and the "prompt". The same seed, prompt and
    actions give the frames of ``the_matrix.stream``."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": LATENTS_PER_SECOND}

    def __init__(
        self,
        model_path: str | Path | None = None,
        prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """``model_path``: stage-4 weights, by default those of a live run. ``prompt``: by default
        the first that the weights know. Loads everything; uses one CPU thread, as a live world
        does. Raises UserError."""
        if render_mode not in (None, "rgb_array"):
            raise UserError(
                f"render_mode: expected rgb_array or None, got {str(render_mode)[:40]!a}"
            )
        folder, _ = model_folder(None if model_path is None else Path(model_path), "stage4")
        use_threads(1)
        checkpoint = Checkpoint.open(folder)
        self.parts = Parts(checkpoint, pick_device())
        self.world = self.parts.world()
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(len(LABELS))
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (checkpoint.height, checkpoint.width, 3), np.uint8
        )
        self._prompt = check_prompt(prompt if prompt is not None else checkpoint.presets[0])
        self._label = LABELS[0]
        self._frames: Iterator[tuple[int, np.ndarray]] | None = None
        self._picture: np.ndarray | None = None

    @staticmethod
    def action(label: str) -> int:
        """The action of a control label such as "DL"."""
        return label_id(label)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a world at its start clip. ``options``: {"prompt": text}, kept until changed.
        Raises UserError."""
        super().reset(seed=seed)
        for name in options or {}:
            if name != "prompt":
                raise UserError(f"reset options: expected prompt, got {str(name)[:40]!a}")
        if options and options.get("prompt") is not None:
            self._prompt = check_prompt(options["prompt"])
        start = self.parts.checkpoint.start_latents(self._prompt)
        self.world.reset(
            check_seed(int(self.np_random.integers(SEEDS)) if seed is None else seed),
            self._prompt,
            start,
        )
        self._frames = stream_frames(self.parts, self.world, iter(lambda: self._label, None))
        before = clip_frames(self.parts, start[-2:])[-FRAMES_PER_LATENT:]
        return self._observed(-1, before)

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold one control for the next four frames."""
        if self._frames is None:
            raise gymnasium.error.ResetNeeded("step was called before reset")
        if not self.action_space.contains(action):
            raise UserError(
                f"action: expected a whole number from 0 to {len(LABELS) - 1}, got {str(action)[:40]!a}"
            )
        self._label = LABELS[int(action)]
        picture, info = self._observed(*next(self._frames))
        return picture, 0.0, False, False, info

    def render(self) -> np.ndarray | None:
        """The newest frame."""
        return None if self.render_mode is None or self._picture is None else self._picture.copy()

    def close(self) -> None:
        """Let the world go."""
        self._frames = None

    def _observed(self, latent: int, frames: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        self._picture = frames[-1]
        info = {
            "frames": frames.copy(),
            "latent": latent,
            "label": self._label,
            "prompt": self._prompt,
        }
        return self._picture.copy(), info


gymnasium.register(id="TheMatrix/Drive-v0", entry_point="pipeline.clients.gym_env:DrivingEnv")

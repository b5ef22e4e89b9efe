"""The world as a Gymnasium environment: nine actions, a picture, four frames (0.25 s) a step. One
process, no Ray.

    env = gymnasium.make("TheMatrix/Drive-v0")        # after: import pipeline.clients.gym_env
    picture, info = env.reset(seed=7, options={"prompt": "A red car on a desert road"})
    picture, reward, terminated, truncated, info = env.step(DrivingEnv.action("DL"))

Needs the extra ``[gym]``. The world has no goal of its own: the reward is always 0 and an episode
never ends by itself; docs/examples/lane_keeper.py learns one.

To record every frame at 16 a second, or to see them, a step is made one frame long; the action then
counts where a latent begins, at every fourth step, as a key that is sampled:

    env = gymnasium.make("TheMatrix/Drive-v0", frames_per_step=1, render_mode="rgb_array")
    env = gymnasium.wrappers.RecordVideo(env, "videos")      # or render_mode="human" and no wrapper

To plan ahead, ``env.unwrapped.snapshot()`` keeps a moment and ``restore(snapshot)`` goes back to it;
``copy.deepcopy(env)`` is a second environment at the same moment. All environments of a process
share one set of weights. docs/examples/plan_ahead.py plans with them."""

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import gymnasium
import numpy as np

from configs.errors import UserError
from configs.geometry import FPS, FRAMES_PER_LATENT
from configs.limits import check_prompt, check_seed
from models.checkpoint import Checkpoint
from models.controls import LABELS, label_id
from models.device import pick_device, use_threads
from models.engines.choose import with_engine
from models.live_world import LiveWorld
from models.offline import clip_frames
from models.parts import Parts
from models.snapshot import Snapshot
from models.weight_folder import model_folder

SEEDS = 2**31 - 1  # worlds that a reset without a seed draws from

# Loaded weights by folder, for as long as an environment uses them.
_shared: WeakValueDictionary[Path, Parts] = WeakValueDictionary()


class DrivingEnv(gymnasium.Env[np.ndarray, np.int64]):
    """Discrete(9) actions are the control labels in the order of models.controls.LABELS;
    observations are uint8 [H, W, 3], the last of a step's four frames. ``info`` holds all of them
    ("frames" [4, H, W, 3]; stage-3 weights make W latents a step, 4 W frames), the newest "latent"
    and the "prompt". With one frame a step "frames" is [1, H, W, 3]. The same seed, prompt and
    actions give the frames of ``the_matrix.stream``."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS // FRAMES_PER_LATENT}

    def __init__(
        self,
        model_path: str | Path | None = None,
        prompt: str | None = None,
        render_mode: str | None = None,
        frames_per_step: int = FRAMES_PER_LATENT,
    ) -> None:
        """``model_path``: stage-4 weights, by default those of a live run. ``prompt``: by default
        the first that the weights know. ``frames_per_step``: 4, or 1 to see and record every
        frame. Loads everything; uses one CPU thread, as a live world does. Raises UserError."""
        if frames_per_step not in (1, FRAMES_PER_LATENT):
            raise UserError(
                f"frames_per_step: expected 1 or {FRAMES_PER_LATENT}, got {frames_per_step!r:.40}"
            )
        if render_mode not in (None, "rgb_array"):
            raise UserError(
                f"render_mode: expected rgb_array or None, got {str(render_mode)[:40]!a}"
            )
        folder, _ = model_folder(None if model_path is None else Path(model_path), "stage4")
        use_threads(1)
        if (parts := _shared.get(folder)) is None:
            device = pick_device()
            checkpoint = with_engine(Checkpoint.open(folder), device)
            parts = _shared[folder] = Parts(checkpoint, device)
        self.parts, checkpoint = parts, parts.checkpoint
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(len(LABELS))
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (checkpoint.height, checkpoint.width, 3), np.uint8
        )
        self._prompt = check_prompt(prompt if prompt is not None else checkpoint.default_prompt)
        self._label = LABELS[0]
        self._world: LiveWorld | None = None
        self._picture: np.ndarray | None = None
        self._single = frames_per_step == 1
        self._waiting: list[np.ndarray] = []  # frames of the latent that are still to be shown
        self.metadata = {**self.metadata, "render_fps": FPS // frames_per_step}

    @staticmethod
    def action(label: str) -> int:
        """The action of a control label such as "DL"."""
        return label_id(label)

    @staticmethod
    def get_action_meanings() -> list[str]:
        """The label of every action, as Atari's environments say it."""
        return list(LABELS)

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
        seed = check_seed(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        self._world, self._waiting = LiveWorld.begin(self.parts, self._prompt, seed), []
        return self._observed(self._before())

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold one control for the next four frames."""
        if not self.action_space.contains(action):
            raise UserError(
                f"action: expected a whole number from 0 to {len(LABELS) - 1}, got {str(action)[:40]!a}"
            )
        world = self.world
        if not self._waiting:
            self._label = LABELS[int(action)]
            frames = world.step(self._label)
            if not len(frames):  # the full decoder shows the very first latent with the second
                frames = world.step(self._label)
            self._waiting = [frame[None] for frame in frames] if self._single else [frames]
        picture, info = self._observed(self._waiting.pop(0))
        return picture, 0.0, False, False, info

    def snapshot(self) -> Snapshot:
        """This moment: world, prompt, pictures (not the generator of seeds for later resets)."""
        return self.world.snapshot()

    def restore(self, snapshot: Snapshot) -> tuple[np.ndarray, dict[str, Any]]:
        """Go back to a moment, of this or another environment with the same weights: picture and
        info as `step` gave them there (one frame a step: the end of its latent). Raises
        UserError."""
        self._waiting = []
        if self._world is None:
            self._world = LiveWorld.open(self.parts, snapshot)
        else:
            self._world.restore(snapshot)
        self._prompt = self._world.prompt
        self._label = snapshot.labels[-1] if snapshot.labels else LABELS[0]
        return self._observed(self._world.frames if snapshot.index else self._before())

    @property
    def world(self) -> LiveWorld:
        """The world being driven; its ``save`` writes it to a file. Raises ResetNeeded before the
        first reset."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("the world has not begun: call reset first")
        return self._world

    def render(self) -> np.ndarray | None:
        """The newest frame."""
        return None if self.render_mode is None or self._picture is None else self._picture.copy()

    def close(self) -> None:
        """Let the world go."""
        self._world, self._waiting = None, []

    def _before(self) -> np.ndarray:
        """What was seen before the world began: the end of its start clip."""
        start = self.parts.checkpoint.start_latents(self._prompt)
        return clip_frames(self.parts, start[-2:])[-FRAMES_PER_LATENT:]

    def _observed(self, frames: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        self._picture = frames[-1]
        info = {
            "frames": frames.copy(),
            "latent": self.world.index - 1,
            "label": self._label,
            "prompt": self._prompt,
        }
        return self._picture.copy(), info


# Without wrappers, so that what is made has action() and snapshot(): it checks all they would.
gymnasium.register(
    id="TheMatrix/Drive-v0",
    entry_point="pipeline.clients.gym_env:DrivingEnv",
    order_enforce=False,
    disable_env_checker=True,
)

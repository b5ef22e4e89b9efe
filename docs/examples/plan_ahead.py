"""Plan ahead in a dream: eight futures of two seconds from the same moment, then drive the one that
stays on the road.

    python -m docs.examples.plan_ahead            # writes planned.mp4: 15 s, planned every second

Road is asphalt, and asphalt is grey: a future is as good as the ground before its car is grey.
Needs the extra [gym].
"""

import argparse
from collections.abc import Iterator
from typing import Final

import gymnasium
import numpy as np

import pipeline.clients.gym_env  # registers the environment  # noqa: F401
from configs.geometry import FPS
from models.controls import parse_signal
from pipeline.clients.gym_env import DrivingEnv
from pipeline.video import VideoWriter

WORLD: Final = "models/tiny/stage4"  # the smaller and faster of the two
COMMITTED: Final = 4  # latents of the best future that are driven
PLANS: Final = (  # eight latents each: two seconds
    "D*8",
    "DL*2,D*6",
    "DR*2,D*6",
    "DL*4,D*4",
    "DR*4,D*4",
    "D*3,DL*3,D*2",
    "D*3,DR*3,D*2",
    "DL*2,DR*2,D*4",
)


def greyness(picture: np.ndarray) -> float:
    """How grey the ground before the car is, 0 to 1: one less the colours' spread."""
    height, width, _ = picture.shape
    ground = picture[height * 5 // 8 : height * 6 // 8, width * 3 // 8 : width * 5 // 8] / 255
    return 1 - float(np.mean(ground.max(axis=2) - ground.min(axis=2)))


def best_plan(env: DrivingEnv) -> list[int]:
    """The actions of the future that stays on the road; the environment is left where it was."""
    plans = [[env.action(label) for label in parse_signal(plan)] for plan in PLANS]
    moment, scores = env.snapshot(), []
    for plan in plans:
        scores.append(sum(greyness(env.step(action)[0]) for action in plan))
        env.restore(moment)
    return plans[int(np.argmax(scores))]


def drive(env: DrivingEnv, seconds: int, planned: bool) -> Iterator[np.ndarray]:
    """Frames uint8 [4, H, W, 3] of a drive from where the environment stands, latent after
    latent."""
    for _ in range(seconds):
        straight = [env.action("D")] * COMMITTED
        for action in best_plan(env)[:COMMITTED] if planned else straight:
            yield env.step(action)[4]["frames"]


def main() -> None:
    """Write the planned drive; say how grey its ground is, and that of a drive straight on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--prompt", default="A red car drives through the desert on a sunny day")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", default="planned.mp4")
    options = parser.parse_args()
    env = gymnasium.make("TheMatrix/Drive-v0", model_path=WORLD).unwrapped
    assert isinstance(env, DrivingEnv)
    picture, _ = env.reset(seed=options.seed, options={"prompt": options.prompt})
    start, grey = env.snapshot(), {True: [], False: []}
    height, width, _ = picture.shape
    with VideoWriter(options.output, width, height, FPS) as video:
        for planned in (True, False):
            env.restore(start)
            for frames in drive(env, options.seconds, planned):
                grey[planned].append(greyness(frames[-1]))
                if planned:
                    video.write(frames)
    env.close()
    print(f"{options.output}: ground before the car {np.mean(grey[True]):.3f} grey")
    print(f"straight on it is {np.mean(grey[False]):.3f}")


if __name__ == "__main__":
    main()

"""Learn to stay on the road in minutes: a policy of three numbers, by the cross-entropy method
(Rubinstein 1999; arXiv 1909.12830 for its use in control).

    python -m docs.examples.lane_keeper           # about 5 minutes on two cores

The policy sees how grey the ground is to the left, ahead and to the right: road is asphalt, and
asphalt is grey. It steers to where a weighted difference points, and drives on where that is small.
The reward is the grey of the ground ahead. Needs the extra [gym].
"""

import argparse
from typing import Final

import gymnasium
import numpy as np

import pipeline.clients.gym_env  # registers the environment  # noqa: F401
from configs.geometry import LATENTS_PER_SECOND
from pipeline.clients.gym_env import DrivingEnv

WORLD: Final = "models/tiny/stage4"  # the smaller and faster of the two
NAMES: Final = ("weight of left against right", "bias", "least difference to steer")
ELITE: Final = 0.25  # of a generation is kept
LEAST_SPREAD: Final = 0.05  # so that a lucky generation does not end the search


def greyness(picture: np.ndarray, left: float, right: float) -> float:
    """How grey the ground is between two places across the picture (0 to 1): one less the colours'
    spread."""
    height, width, _ = picture.shape
    columns = slice(int(left * width), int(right * width))
    ground = picture[height * 5 // 8 : height * 7 // 8, columns] / 255
    return 1 - float(np.mean(ground.max(axis=2) - ground.min(axis=2)))


def label(policy: np.ndarray, picture: np.ndarray) -> str:
    """What a policy [weight, bias, least] holds when it sees this."""
    weight, bias, least = policy
    difference = greyness(picture, 0.05, 0.35) - greyness(picture, 0.65, 0.95)
    drive = 10 * weight * difference + bias
    if abs(drive) <= abs(least):
        return "D"
    return "DL" if drive > 0 else "DR"


def episode(env: DrivingEnv, policy: np.ndarray, seed: int, seconds: int) -> float:
    """The mean reward of one drive."""
    picture, _ = env.reset(seed=seed)
    rewards = []
    for _ in range(seconds * LATENTS_PER_SECOND):
        picture, *_ = env.step(env.action(label(policy, picture)))
        rewards.append(greyness(picture, 0.35, 0.65))
    return float(np.mean(rewards))


def learn(env: DrivingEnv, generations: int, population: int, seconds: int) -> np.ndarray:
    """The mean of the last generation's elite. All policies of a generation drive the same world,
    every generation another."""
    draw = np.random.default_rng(7)
    mean, spread = np.zeros(3), np.ones(3)
    for generation in range(generations):
        policies = mean + spread * draw.standard_normal((population, 3))
        rewards = [episode(env, policy, generation, seconds) for policy in policies]
        best = np.argsort(rewards)[-max(2, int(ELITE * population)) :]
        mean = policies[best].mean(axis=0)
        spread = np.maximum(policies[best].std(axis=0), LEAST_SPREAD)
        print(
            f"generation {generation + 1}: mean {np.mean(rewards):.4f}, best {np.max(rewards):.4f}"
        )
    return mean


def main() -> None:
    """Learn, say what was learned, and compare with driving straight on in worlds not seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--prompt", default="A yellow car drives through a green meadow by day")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--population", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=12, help="of one drive")
    parser.add_argument("--unseen", type=int, default=6, help="worlds to compare in")
    options = parser.parse_args()
    env = gymnasium.make("TheMatrix/Drive-v0", model_path=WORLD, prompt=options.prompt)
    assert isinstance(env, DrivingEnv)
    learned = learn(env, options.generations, options.population, options.seconds)
    straight = np.array([0.0, 0.0, 1.0])
    for name, value in zip(NAMES, learned, strict=True):
        print(f"{name}: {value:.2f}")
    for name, policy in (("learned", learned), ("straight on", straight)):
        seeds = range(1000, 1000 + options.unseen)
        rewards = [episode(env, policy, seed, options.seconds) for seed in seeds]
        print(
            f"{name}, worlds not seen: {np.mean(rewards):.4f} grey ({np.min(rewards):.4f} at least)"
        )
    env.close()


if __name__ == "__main__":
    main()

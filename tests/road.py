"""A small deterministic world for tests: ``python -m tests.road`` speaks the program protocol of
docs/protocol.md.

A road seen from behind a car. Labels turn the heading and move the ground; prompts colour the sky;
the seed places the hills. Options: --size 144x96, --delay SECONDS per latent (a slow model),
--startup SECONDS, --die-after LATENTS."""

import argparse
import json
import sys
import time
import zlib

import numpy as np

from models.controls import LABELS

PRESETS = (
    "a red car on a road at noon",
    "a red car on a road at sunset",
    "a red car on a road at night",
)
SKIES = {"sunset": (238, 150, 90), "night": (22, 26, 58), "snow": (214, 222, 230)}
SPEED = {"D": 1.0, "B": -0.5, "N": 0.5}


class Road:
    """The state of the car and its picture; ``step`` is one video frame."""

    def __init__(self, width: int, height: int) -> None:
        self.prompt = ""
        # large pictures are enlarged small ones with a grain, to cost little time
        self._scale = max(1, width // 144)
        width, height = width // self._scale, height // self._scale
        self._columns = np.arange(width) / width - 0.5
        self._rows = np.arange(height) / height
        grain = np.random.default_rng(0).integers(
            0, 24, (height * self._scale, width * self._scale, 1)
        )
        self._grain = grain.astype(np.uint8)
        self.begin(0)

    def begin(self, seed: int) -> None:
        self.heading, self.way, self.frames = 0.0, 0.0, 0
        generator = np.random.default_rng(seed)
        self._waves = generator.uniform(0.02, 0.08, 4), generator.uniform(0, 6.28, 4)

    def step(self, label: str) -> np.ndarray:
        turn = {"L": -1, "R": 1}.get(label[1:], 0)
        self.heading += 0.03 * turn * (1 if label[0] != "B" else -1)
        self.way += SPEED[label[0]] / 16
        self.frames += 1
        picture = self._picture(turn)
        if self._scale == 1:
            return picture
        large = picture.repeat(self._scale, 0).repeat(self._scale, 1)
        return large // 8 * 7 + self._grain

    def _picture(self, turn: int) -> np.ndarray:
        x, y = self._columns[None, :], self._rows[:, None]
        sky = np.array(
            next((c for word, c in SKIES.items() if word in self.prompt), (126, 178, 226))
        )
        light = sky.mean() / 255 + 0.15
        image = np.empty((len(self._rows), len(self._columns), 3))
        image[:] = sky * (0.65 + 0.5 * y[..., None])
        around = x + self.heading
        hills = (
            sum(a * np.sin(around * f + p) for a, p, f in zip(*self._waves, (5, 9, 17, 31))) * 0.7
        )
        image[np.broadcast_to(y > 0.42 - hills, image.shape[:2])] = np.array((88, 112, 134)) * light
        depth = np.maximum(y - 0.5, 1e-3)
        ground = np.broadcast_to(y > 0.5, image.shape[:2])
        image[ground] = np.array((106, 134, 78)) * light
        middle = x + 0.25 * turn * (1 - y) ** 2
        road = ground & (abs(middle) < 0.42 * depth + 0.008)
        image[road] = np.array((92, 90, 96)) * light
        dashes = (
            ground
            & (abs(middle) < 0.012 * depth * 2)
            & (np.mod(0.22 / depth + 3 * self.way, 1) < 0.5)
        )
        image[dashes] = np.array((236, 230, 210)) * max(light, 0.6)
        car = (abs(x - 0.01 * turn) < 0.055) & (abs(y - 0.86) < 0.055)
        image[car] = (196, 48, 40)
        return np.clip(image, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="144x96")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--startup", type=float, default=0.0)
    parser.add_argument("--die-after", type=int, default=-1)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    time.sleep(options.startup)
    out = sys.stdout.buffer
    header = {"protocol": 1, "name": "test road", "width": width, "height": height, "fps": 16}
    out.write(json.dumps({**header, "labels": LABELS, "presets": PRESETS}).encode() + b"\n")
    out.flush()
    road, latents = Road(width, height), 0
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word in LABELS:
            if latents == options.die_after:
                sys.exit(3)
            began = time.monotonic()
            frames = b"".join(road.step(word).tobytes() for _ in range(4))
            time.sleep(max(0.0, options.delay - (time.monotonic() - began)))
            out.write(frames)
            out.flush()
            latents += 1
        elif word == "reset":
            road.begin(zlib.crc32(rest.encode()))
        elif word == "prompt":
            road.prompt = rest
        else:
            sys.exit(f"unknown line {line!r}")


if __name__ == "__main__":
    main()

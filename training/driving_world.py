"""The driving world's command line (`python -m training.driving_world`): live in the page, a
filter, or a picture."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from configs.errors import UserError, one_line_errors
from configs.geometry import FPS, FRAMES_PER_LATENT
from models.controls import LABELS, label_id
from training.captions import PRESET_SCENES, PRESETS, scene_of
from training.scene import Scene
from training.simulator import Car, Simulator
from training.view import SMALL


class Pipe:
    """Answers protocol lines (docs/protocol.md): labels with four raw frames and the car's motion in
    them, `reset SEED`, `prompt TEXT`."""

    def __init__(self, seed: int, scene: Scene = PRESET_SCENES[0]) -> None:
        self.scene = scene
        self.drive = Simulator(scene, seed)

    def answer(self, line: str) -> bytes:
        """What a line is answered with, possibly nothing. Raises UserError for lines the protocol
        does not know."""
        verb, _, rest = line.partition(" ")
        if verb == "reset":
            if not rest.isascii() or not rest.isdecimal():
                raise UserError(
                    f"pipe: expected 'reset SEED' with a whole number, got {line[:60]!a}"
                )
            self.drive = Simulator(self.scene, int(rest))
        elif verb == "prompt":
            self.scene = scene_of(rest, self.scene)
            self.drive.change(self.scene)
        else:
            label_id(line)
            frames, motion = [], b""
            for _ in range(FRAMES_PER_LATENT):
                frames.append(self.drive.frame(line).tobytes())
                motion += motion_of(self.drive.car)
            return b"".join(frames) + motion
        return b""

    def serve(self, lines: BinaryIO, out: BinaryIO) -> None:
        """The header, then an answer to every line until the input ends."""
        header = {
            "protocol": 1,
            "name": "driving world simulator",
            "width": SMALL.width,
            "height": SMALL.height,
            "fps": FPS,
            "labels": LABELS,
            "presets": PRESETS,
            "motion": True,
        }
        out.write(json.dumps(header).encode() + b"\n")
        out.flush()
        for line in lines:
            out.write(self.answer(line.decode("utf-8", "replace").rstrip("\r\n")))
            out.flush()


def motion_of(car: Car) -> bytes:
    """Speed in metres a second and heading in degrees clockwise from north, as the protocol has
    them."""
    return np.array([car.speed, (90 - math.degrees(car.heading)) % 360], "<f4").tobytes()


def strip(path: Path) -> None:
    """A picture: every biome and time of day, driving on, left, straight and right."""
    rows = []
    for k, scene in enumerate(PRESET_SCENES):
        drive = Simulator(scene, k)
        row = []
        for label in ("D", "D", "DL", "DL", "D", "DR", "DR", "B"):
            row.append(drive.frames(label, 2 * FRAMES_PER_LATENT)[-1])
        rows.append(np.concatenate(row, 1))
    Image.fromarray(np.concatenate(rows)).quantize(256).save(path)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m training.driving_world", description=__doc__)
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--play",
        action="store_true",
        help="drive the simulator in the live page (python -m pipeline play)",
    )
    what.add_argument(
        "--pipe",
        action="store_true",
        help="label lines on standard input, raw frames on standard output",
    )
    what.add_argument(
        "--strip", type=Path, metavar="FILE.png", help="draw every biome and time of day"
    )
    made.add_argument("--seed", type=int, default=0, help="of the world (default 0)")
    made.add_argument("--port", help="of the live page, with --play")
    return made


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        if chosen.strip:
            strip(chosen.strip)
        elif chosen.pipe:
            Pipe(chosen.seed).serve(sys.stdin.buffer, sys.stdout.buffer)
        else:
            play(chosen.seed, chosen.port)
    except BrokenPipeError:
        # the reader left: nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def play(seed: int, port: str | None) -> None:
    """Becomes the live page with this simulator behind it."""
    page = [sys.executable, "-m", "pipeline", "play"] + (["--port", port] if port else [])
    child = [sys.executable, "-m", "training.driving_world", "--pipe", "--seed", str(seed)]
    os.execv(sys.executable, [*page, "--", *child])


if __name__ == "__main__":
    raise SystemExit(main())

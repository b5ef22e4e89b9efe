"""The simulator's command line: a filter that speaks the program protocol, and a picture."""

import io
import json
import math

import numpy as np
import pytest

from configs.errors import UserError
from models.controls import LABELS
from training.driving_world import Pipe, main, motion_of
from training.simulator import Car


def test_pipe_answers_labels_with_four_frames_and_repeats() -> None:
    lines = b"prompt snow at night\nreset 42\nDL\nD\n"
    outputs = []
    for _ in range(2):
        out = io.BytesIO()
        Pipe(0).serve(io.BytesIO(lines), out)
        outputs.append(out.getvalue())
    header, _, frames = outputs[0].partition(b"\n")
    assert json.loads(header)["labels"] == list(LABELS)
    assert len(frames) == 2 * (4 * 96 * 144 * 3 + 4 * 2 * 4)  # and the motion of each frame
    assert outputs[0] == outputs[1]


def test_motion_is_the_cars_own() -> None:
    told = {way: motion_of(Car(0, 0, heading)) for way, heading in (("N", math.pi / 2), ("E", 0))}
    assert np.frombuffer(told["N"], "<f4").tolist() == [10.0, 0.0]
    assert np.frombuffer(told["E"], "<f4").tolist() == [10.0, 90.0]
    pipe = Pipe(3)
    before = pipe.drive.car
    speed, heading = np.frombuffer(pipe.answer("BL")[-8:], "<f4")
    assert speed == np.float32(pipe.drive.car.speed) < before.speed  # slowing down, not yet back
    assert heading == pytest.approx((90 - math.degrees(pipe.drive.car.heading)) % 360, abs=1e-3)


@pytest.mark.parametrize("line", ["XX", "reset x", "", "reset"])
def test_pipe_refuses_what_it_does_not_know(line: str) -> None:
    with pytest.raises(UserError, match=r"expected"):
        Pipe(0).answer(line)


def test_strip_draws_a_picture(tmp_path) -> None:
    assert main(["--strip", str(tmp_path / "strip.png")]) == 0
    assert (tmp_path / "strip.png").stat().st_size > 10_000

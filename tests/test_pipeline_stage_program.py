"""Any program as a world: the protocol, order, determinism, and what happens when the child
misbehaves."""

import asyncio
import sys
import zlib

import numpy as np
import pytest

from actors.source import Pace, Take
from configs.errors import UserError
from pipeline.stage.program import Program
from tests.road import Road

OTHER = (
    '{"protocol": 9, "name": "x", "width": 2, "height": 2, "fps": 16, "labels": [], "presets": []}'
)
ROAD = [sys.executable, "-m", "tests.road"]


def quietly(report) -> None:
    del report


async def free(program: Program, latents: int):
    """The next latents, as fast as they come."""
    program.pace(Pace(0, 0.0, 1_000_000))
    return [await program.next() for _ in range(latents)]


def run(body):
    async def whole():
        program = await Program.launch(ROAD)
        try:
            return await body(program)
        finally:
            await program.close()
            assert program._child.returncode == 0

    return asyncio.run(whole())


def test_the_header_tells_the_world():
    async def body(program):
        info = program.info
        assert (info.name, info.width, info.height, info.fps) == ("test road", 144, 96, 16)
        assert info.presets[0] == "a red car on a road at noon" and info.latent_seconds == 0.25

    run(body)


def test_chunks_carry_the_frames_of_their_labels_in_order():
    async def body(program):
        await program.start(7, "night", quietly)
        program.hold("DL", 3)
        chunks = await free(program, 3)
        assert [(c.index, c.first_frame, c.labels, c.cursor, c.prompt) for c in chunks] == [
            (0, 0, ("DL",), 3, "night"),
            (1, 4, ("DL",), 3, "night"),
            (2, 8, ("DL",), 3, "night"),
        ]
        return np.concatenate([c.frames for c in chunks])

    frames = run(body)
    road = Road(144, 96)
    road.prompt = "night"
    road.begin(zlib.crc32(b"7"))
    assert np.array_equal(frames, np.stack([road.step("DL") for _ in range(12)]))


def test_a_world_that_knows_tells_how_its_car_moves():
    async def body():
        program = await Program.launch([sys.executable, "-m", "training.driving_world", "--pipe"])
        await program.start(7, "noon", quietly)
        program.hold("B", 1)
        chunks = await free(program, 8)
        await program.close()
        assert program.info.motion and all(len(chunk.motion) == 4 for chunk in chunks)
        speeds = [motion.speed for chunk in chunks for motion in chunk.motion]
        assert 0 < speeds[0] < 10 and -8 <= speeds[-1] < -7, "it takes a while to go backwards"
        assert speeds == sorted(speeds, reverse=True)
        assert all(0 <= motion.heading < 360 for motion in chunks[0].motion)

    asyncio.run(body())


def test_others_tell_nothing():
    async def body(program):
        await program.start(7, "noon", quietly)
        assert not program.info.motion and (await free(program, 1))[0].motion == ()

    run(body)


def test_a_take_is_followed_exactly_and_then_the_hand_takes_over():
    async def body(program):
        await program.start(1, "noon", quietly)
        program.hold("B", 1)
        first = await free(program, 2)
        epoch = program.reset(9, Take(9, ("D", "DL", "DR"), ("sunset", "sunset", "night")))
        again = await free(program, 4)
        assert (
            epoch == 1
            and {c.epoch for c in again} == {1}
            and [c.index for c in again] == [0, 1, 2, 3]
        )
        assert [c.labels[0] for c in again] == ["D", "DL", "DR", "B"]
        assert [c.prompt for c in again] == ["sunset", "sunset", "night", "night"]
        program.reset(9, Take(9, ("D", "DL", "DR"), ("sunset", "sunset", "night")))
        repeated = await free(program, 4)
        assert all(np.array_equal(a.frames, b.frames) for a, b in zip(again, repeated))
        assert not np.array_equal(first[0].frames, again[0].frames)

    run(body)


def test_it_never_runs_more_than_two_latents_ahead():
    async def body(program):
        await program.start(1, "noon", quietly)
        program.pace(Pace(0, 0.0, -1))
        made = [await program.next() for _ in range(2)]
        third = asyncio.ensure_future(program.next())
        await asyncio.sleep(0.2)
        assert not third.done() and [c.index for c in made] == [0, 1]
        program.pace(Pace(2, 0.0, 0))
        assert (await third).index == 2

    run(body)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["/no/such/program"], "cannot be started"),
        ([sys.executable, "-c", "print('hello')"], "expected a JSON header line"),
        ([sys.executable, "-c", "pass"], "expected a JSON header line"),
        ([sys.executable, "-c", "print('[' * 50000)"], "expected a JSON header line"),
        (
            [
                sys.executable,
                "-c",
                'print(\'{"protocol":9,"name":"x","width":2,"height":2,"fps":16,"labels":[],"presets":[]}\')',
            ],
            "expected protocol 1",
        ),
        (
            [
                sys.executable,
                "-c",
                'print(\'{"protocol":1,"name":"x","width":1e999,"height":2,"fps":16,"labels":[],"presets":[]}\')',
            ],
            "expected a JSON header line",
        ),
    ],
)
def test_a_program_that_speaks_otherwise_is_refused_in_one_line(command, complaint):
    with pytest.raises(UserError, match=complaint) as refusal:
        asyncio.run(Program.launch(command))
    assert "\n" not in str(refusal.value)


def test_a_child_that_dies_ends_the_drive_with_one_reason():
    async def body():
        program = await Program.launch([*ROAD, "--die-after", "2"])
        await program.start(1, "noon", quietly)
        with pytest.raises(
            RuntimeError, match="test road ended in the middle of a drive, exit code 3"
        ):
            await free(program, 3)
        await program.close()

    asyncio.run(body())

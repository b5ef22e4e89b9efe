"""Steps that come back: the commit behind them, and their slices as one chunk of frames."""

from typing import Any

import numpy as np

from actors.records import LatentChunk, Memory, Slice, StepOrder, StepReply
from actors.timeline import REPLAY, Commit, Offsets, Prompt, Step, Timeline

ROAD = Prompt("a road", 2, np.zeros((1, 2, 4), np.float32))
NONE: Any = None  # of futures and references that a step that came back is not asked for


def come_back(
    timeline: Timeline, index: int, frames: int, label: str = "D", memory: Memory | None = None
) -> list[Slice]:
    """A step of one latent comes back in two slices, 2 and 3 pixels wide."""
    step = Step(
        order=StepOrder(index, (f"{label}!",), index),
        prompt=ROAD,
        sampled=1.0,
        chunk=NONE,
        replies=NONE,
        slices=NONE,
    )
    timeline.under_way.append(step)
    slices = [
        Slice(np.full((frames, 4, width, 3), width, np.uint8), 3.0 - width, 4.0, memory)
        for width in (2, 3)
    ]
    chunk = LatentChunk(index, np.full((1, 1), index, np.float32), bfloat16=False)
    timeline.done(step, chunk, StepReply((label,), index, 2.0, 3.0, NONE), slices)
    return slices


def test_slices_are_put_side_by_side_on_our_clock() -> None:
    timeline = Timeline(1, Commit(0, 7, ROAD), epoch=5)
    chunk = timeline.joined(come_back(timeline, 0, 4, "DL"), Offsets(dit=10.0, vae=20.0))
    assert chunk is not None and chunk.frames.shape == (4, 4, 5, 3)
    assert (chunk.frames[:, :, :2] == 2).all() and (chunk.frames[:, :, 2:] == 3).all()
    assert (chunk.epoch, chunk.index, chunk.first_frame, chunk.cursor) == (5, 0, 0, 0)
    assert (chunk.labels, chunk.steered) == (("DL",), ("DL!",))
    assert chunk.stamps["step_start"] == 12.0 and chunk.stamps["step_end"] == 13.0
    assert chunk.stamps["decode_start"] == 20.0 and chunk.stamps["decode_end"] == 24.0


def test_labels_of_a_latent_without_frames_come_with_the_next() -> None:
    timeline = Timeline(1, Commit(0, 7, ROAD))
    offsets = Offsets(0.0, 0.0)
    assert timeline.joined(come_back(timeline, 0, 0, "B"), offsets) is None
    chunk = timeline.joined(come_back(timeline, 1, 8, "DR"), offsets)
    assert chunk is not None and (chunk.index, chunk.labels) == (0, ("B", "DR"))
    later = timeline.joined(come_back(timeline, 2, 4), offsets)
    assert later is not None and (later.index, later.first_frame) == (2, 8)


def test_the_commit_stands_behind_the_newest_step_and_is_bounded() -> None:
    timeline = Timeline(1, Commit(0, 7, ROAD))
    for index in range(REPLAY + 9):
        come_back(timeline, index, 4)
    commit = timeline.commit
    assert (commit.index, commit.seed, commit.prompt) == (REPLAY + 9, 7, ROAD)
    assert [chunk.index for chunk in commit.history] == list(range(9, REPLAY + 9))
    assert commit.memories == (None, None)


def test_a_decoder_that_hands_its_memory_back_needs_no_history() -> None:
    timeline = Timeline(1, Commit(0, 7, ROAD))
    memory = {"rows": np.zeros(3, np.float32)}
    come_back(timeline, 0, 4, memory=memory)
    assert timeline.commit.memories == (memory, memory) and timeline.commit.history == ()


def test_latents_are_kept_as_values() -> None:
    """Arrays of the object store are views: they may go with their cluster."""
    timeline = Timeline(1, Commit(0, 7, ROAD))
    shared = np.zeros((1, 1), np.float32)
    step = Step(
        order=StepOrder(0, ("D",)), prompt=ROAD, sampled=1.0, chunk=NONE, replies=NONE, slices=NONE
    )
    timeline.under_way.append(step)
    slices = [Slice(np.zeros((4, 4, 2, 3), np.uint8), 0.0, 1.0, None)]
    timeline.done(step, LatentChunk(0, shared, False), StepReply(("D",), 0, 0.0, 1.0, NONE), slices)
    shared[:] = 9
    assert (timeline.commit.history[0].latents == 0).all()

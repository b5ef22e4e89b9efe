"""Steps that come back: the commit behind them, and their slices as one chunk of frames."""

from typing import Any

import numpy as np
import pytest

from actors.records import LatentChunk, Slice, StepOrder, StepReply
from actors.timeline import KEPT, KEPT_EVERY, REPLAY, Commit, Offsets, Prompt, Route, Step, Timeline
from configs.errors import UserError

ROAD = Prompt("a road", 2, np.zeros((1, 2, 4), np.float32))
NONE: Any = None  # of futures and references that a step that came back is not asked for


def under_way(timeline: Timeline, order: StepOrder) -> Step:
    """A step that was asked for at 0.5 s and began at 1 s."""
    step = Step(
        order=order,
        prompt=ROAD,
        asked=0.5,
        sampled=1.0,
        chunk=NONE,
        replies=NONE,
        slices=NONE,
    )
    timeline.under_way.append(step)
    return step


def come_back(timeline: Timeline, index: int, frames: int, label: str = "D") -> list[Slice]:
    """A step of one latent comes back in two slices, 2 and 3 pixels wide."""
    step = under_way(timeline, StepOrder(index, (f"{label}!",), index))
    slices = [
        Slice(np.full((frames, 4, width, 3), width, np.uint8), 3.0 - width, 4.0, 0.5)
        for width in (2, 3)
    ]
    chunk = LatentChunk(index, np.full((1, 1), index, np.float32), bfloat16=False)
    timeline.done(step, chunk, StepReply((label,), index, 2.0, 3.0, 0.5, NONE), slices)
    return slices


def test_slices_are_put_side_by_side_on_our_clock() -> None:
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)), epoch=5)
    chunk = timeline.joined(come_back(timeline, 0, 4, "DL"), Offsets(dit=10.0, vae=20.0))
    assert chunk is not None and chunk.frames.shape == (4, 4, 5, 3)
    assert (chunk.frames[:, :, :2] == 2).all() and (chunk.frames[:, :, 2:] == 3).all()
    assert (chunk.epoch, chunk.index, chunk.first_frame, chunk.cursor) == (5, 0, 0, 0)
    assert (chunk.labels, chunk.steered) == (("DL",), ("DL!",))
    assert chunk.stamps["step_start"] == 12.0 and chunk.stamps["step_end"] == 13.0
    assert chunk.stamps["decode_start"] == 20.0 and chunk.stamps["decode_end"] == 24.0


def test_labels_of_a_latent_without_frames_come_with_the_next() -> None:
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)))
    offsets = Offsets(0.0, 0.0)
    assert timeline.joined(come_back(timeline, 0, 0, "B"), offsets) is None
    chunk = timeline.joined(come_back(timeline, 1, 8, "DR"), offsets)
    assert chunk is not None and (chunk.index, chunk.labels) == (0, ("B", "DR"))
    later = timeline.joined(come_back(timeline, 2, 4), offsets)
    assert later is not None and (later.index, later.first_frame) == (2, 8)


def test_the_commit_stands_behind_the_newest_step_and_is_bounded() -> None:
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)))
    for index in range(REPLAY + 9):
        come_back(timeline, index, 4)
    commit = timeline.commit
    assert (commit.index, commit.seed, commit.prompt) == (REPLAY + 9, 7, ROAD)
    assert [chunk.index for chunk in commit.history] == list(range(9, REPLAY + 9))


def test_latents_are_kept_as_values() -> None:
    """Arrays of the object store are views: they may go with their cluster."""
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)))
    shared = np.zeros((1, 1), np.float32)
    step = under_way(timeline, StepOrder(0, ("D",)))
    slices = [Slice(np.zeros((4, 4, 2, 3), np.uint8), 0.0, 1.0, 0.5)]
    timeline.done(
        step, LatentChunk(0, shared, False), StepReply(("D",), 0, 0.0, 1.0, 0.5, NONE), slices
    )
    shared[:] = 9
    assert (timeline.commit.history[0].latents == 0).all()


def driven(latents: int) -> Timeline:
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)))
    for index in range(latents):
        come_back(timeline, index, 4, str(index))
        timeline.joined([Slice(np.zeros((4, 4, 2, 3), np.uint8), 0, 1, 0.5)], Offsets(0, 0))
    return timeline


def test_a_minute_can_be_gone_back_to_and_no_more_is_kept() -> None:
    timeline = driven(400)
    kept = timeline.kept
    assert kept[0] <= 400 - 240 and kept[-1] == 400 and len(kept) == KEPT
    assert set(np.diff(kept)) == {KEPT_EVERY}
    with pytest.raises(UserError, match=f"expected a latent from {kept[0]} to 400"):
        timeline.moment(kept[0] - 1)
    with pytest.raises(UserError):
        timeline.moment(401)


def test_a_moment_is_reached_from_the_commit_before_it_by_what_steered_then() -> None:
    timeline = driven(30)
    moment = timeline.moment(21)
    assert (moment.latent, moment.seed, moment.prompt) == (21, 7, "a road")
    route = moment.state
    assert isinstance(route, Route) and route.commit.index == 16
    assert [label for label, _ in route.way] == [f"{n}!" for n in range(16, 21)]
    exact = timeline.moment(16).state
    assert isinstance(exact, Route) and exact.commit is route.commit and exact.way == ()


def test_from_a_moment_one_can_go_back_further() -> None:
    route = driven(30).moment(21).state
    assert isinstance(route, Route)
    timeline = Timeline(1, route, epoch=4, first=21)
    assert timeline.next_index == 16 and timeline.kept == [0, 8, 16]
    again = timeline.moment(11).state
    assert isinstance(again, Route) and again.commit.index == 8
    assert [label for label, _ in again.way] == ["8!", "9!", "10!"]


def test_moments_that_were_given_back_for_a_rest_can_be_kept_again() -> None:
    timeline = driven(400)
    moments = [Commit(index, 7, ROAD) for index in range(16, 400, 16)]
    before = timeline.moment(250).state
    timeline.rest()
    assert timeline.kept == [400]
    come_back(timeline, 400, 4, "400")
    timeline.recall(moments)
    assert timeline.kept[0] <= 160 and timeline.kept[-2:] == [384, 400]
    route = timeline.moment(250).state
    assert isinstance(route, Route) and isinstance(before, Route)
    assert route.commit.index == 240 and route.way == (*before.led, *before.way)[-10:]
    kept = timeline.kept
    timeline.recall(moments)
    assert timeline.kept == kept, "none of them twice"


def test_what_leads_to_a_moment_is_not_shown_again() -> None:
    route = driven(30).moment(21).state
    assert isinstance(route, Route)
    timeline, seen = Timeline(1, route, first=21), []
    for index in range(16, 23):
        seen.append(timeline.joined(come_back(timeline, index, 4), Offsets(0, 0)))
    assert seen[:5] == [None] * 5
    assert [(c.index, c.first_frame) for c in seen[5:] if c] == [(21, 84), (22, 88)]


def test_of_a_decoder_that_waited_only_the_latents_asked_for_are_shown() -> None:
    timeline = Timeline(1, Route(Commit(0, 7, ROAD)), first=1)
    assert timeline.joined(come_back(timeline, 0, 0, "B"), Offsets(0, 0)) is None
    chunk = timeline.joined(come_back(timeline, 1, 8, "DR"), Offsets(0, 0))
    assert chunk is not None and (chunk.index, chunk.labels) == (1, ("DR",))
    assert len(chunk.frames) == 4 and chunk.first_frame == 4


def test_who_rests_keeps_where_it_stands() -> None:
    timeline = driven(30)
    timeline.rest()
    assert timeline.kept == [30] and timeline.moment(30).latent == 30

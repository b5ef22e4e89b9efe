"""The playhead: chunks in, one frame a slot out, without a clock."""

import math

import numpy as np
import pytest

from actors.source import FrameChunk
from pipeline.stage.playhead import WARM_UP, Playhead
from tests.squares import Squares

SLOT = 1 / 16


def chunk(index: int, epoch: int = 0, arrived: float = 0.0, latents: int = 1) -> FrameChunk:
    """Frames of ``latents`` latents, each frame filled with its number."""
    made = Squares()._make()
    first = 4 * index
    frames = np.stack([np.full((2, 2, 3), first + n, np.uint8) for n in range(4 * latents)])
    return FrameChunk(
        **{
            **made.__dict__,
            "epoch": epoch,
            "index": index,
            "first_frame": first,
            "frames": frames,
            "labels": ("D",) * latents,
            "steered": tuple(f"s{index + n}" for n in range(latents)),
            "stamps": {"sampled": arrived - 0.1, "arrived": arrived},
        }
    )


def test_frames_come_out_in_order_and_the_first_of_a_latent_tells_what_steered_it() -> None:
    playhead = Playhead(SLOT, 4)
    assert playhead.admit(chunk(0, latents=2)) and playhead.depth == 8
    shown = [playhead.advance(n * SLOT) for n in range(8)]
    assert [(frame.index, frame.latent) for frame, _, _ in shown] == [(n, n // 4) for n in range(8)]
    assert [steered for _, _, steered in shown] == ["s0", *(None,) * 3, "s1", *(None,) * 3]
    assert all((frame.image == frame.index).all() for frame, _, _ in shown)
    assert not any(placed.late for _, placed, _ in shown) and playhead.depth == 0


def test_what_a_reset_overtook_is_refused_and_counted() -> None:
    playhead = Playhead(SLOT, 4)
    playhead.admit(chunk(0))
    playhead.rewind(3)
    assert playhead.depth == 0 and playhead.due is None
    assert not playhead.admit(chunk(1, epoch=2)) and playhead.overtaken == 4
    assert playhead.admit(chunk(0, epoch=3)) and playhead.depth == 4


def test_a_gap_within_an_epoch_is_an_error() -> None:
    playhead = Playhead(SLOT, 4)
    playhead.admit(chunk(0))
    with pytest.raises(RuntimeError, match="latent 2 where 1 was expected"):
        playhead.admit(chunk(2))


def test_a_rebuild_goes_on_where_the_world_was() -> None:
    playhead = Playhead(SLOT, 4)
    playhead.admit(chunk(0))
    assert playhead.admit(chunk(1, epoch=1)) and playhead.epoch == 1


def test_steps_wait_while_all_stands_and_start_just_in_time_once_enough_was_measured() -> None:
    playhead = Playhead(SLOT, 4)
    assert playhead.pace(paused=False).start == 0.0
    assert playhead.pace(paused=True).start == math.inf
    for index in range(WARM_UP + 6):
        playhead.admit(chunk(index, arrived=index * 4 * SLOT))
        for frame in range(4):
            playhead.advance((4 * index + frame) * SLOT)
    pace = playhead.pace(paused=False)
    due = (4 * (WARM_UP + 6)) * SLOT
    assert pace.start == pytest.approx(due - playhead.lead.seconds)
    assert 0.1 < playhead.lead.seconds < 0.2
    assert (pace.index, pace.shown) == (WARM_UP + 6, WARM_UP + 5)


def test_free_running_steps_start_at_once() -> None:
    playhead = Playhead(SLOT, 4, just_in_time=False)
    for index in range(WARM_UP + 6):
        playhead.admit(chunk(index, arrived=index * 4 * SLOT))
        for frame in range(4):
            playhead.advance((4 * index + frame) * SLOT)
    assert playhead.pace(paused=False).start == 0.0

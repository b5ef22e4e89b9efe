"""Whether the machine holds the frame rate: decided from figures, said once."""

import asyncio

import pytest

from pipeline.stage import show as show_module
from pipeline.stage import tempo
from pipeline.stage.tempo import Tempo, judge
from tests.squares import Squares, play, watch

LATENT = 0.25


@pytest.mark.parametrize(
    ("shown", "step", "decode", "said"),
    [
        (15.9, 20.0, 25.0, None),
        (15.0, 20.0, 25.0, None),
        (6.1, 60.0, 330.0, "the decoder"),
        (6.1, 400.0, 90.0, "the transformer"),
        (8.0, 180.0, 190.0, "together"),
        (8.0, 20.0, 25.0, "other programs"),
        (8.0, None, None, "other programs"),
    ],
)
def test_what_is_too_slow_is_named_with_what_helps(shown, step, decode, said):
    line = judge(Tempo(shown, 16, LATENT, step, decode), slow=False)
    if said is None:
        assert line == ""
    else:
        assert said in line and f"{shown:.1f} of 16" in line


def test_it_takes_more_to_be_fast_again_than_to_stay_fast():
    at_the_edge = Tempo(15.0, 16, LATENT, 20.0, 25.0)
    assert not judge(at_the_edge, slow=False) and judge(at_the_edge, slow=True)
    assert not judge(Tempo(15.8, 16, LATENT, 20.0, 25.0), slow=True)


def test_nothing_is_judged_before_frames_flowed_for_a_while():
    assert not judge(Tempo(None, 16, LATENT, 20.0, 25.0), slow=False)


def test_a_slow_source_is_said_once_and_stands_in_the_figures(monkeypatch):
    monkeypatch.setattr(tempo, "LEAST_SECONDS", 1.5)
    monkeypatch.setattr(show_module, "STATS_SECONDS", 0.3)

    async def drive(show):
        seen = await watch(show, lambda f, e: [x for x in e if x.kind == "notice"], 20)
        await asyncio.sleep(1.0)
        return seen

    show, (_, events) = play(Squares(seconds=0.5), drive)
    (notice,) = [event.data for event in events if event.kind == "notice"]
    assert notice["level"] == "warning" and "of 16 frames a second" in notice["message"]
    assert "of 16 frames a second" in show.stats()["slow"]

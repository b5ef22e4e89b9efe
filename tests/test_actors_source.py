"""When the next step may start."""

import math

import pytest

from actors.source import STEPS_AHEAD, Notice, Pace, Reporter, StageReport, Take, WorldInfo

INFO = WorldInfo("tiny", "hash", 96, 144)


def test_steps_follow_at_the_pace_of_the_latents() -> None:
    pace = Pace(index=4, start=10.0, shown=4)
    assert INFO.latent_seconds == 0.25
    assert pace.wait(4, INFO, now=9.5) == pytest.approx(0.5)
    assert pace.wait(6, INFO, now=9.5) == pytest.approx(1.0)
    assert pace.wait(4, INFO, now=11.0) == pytest.approx(-1.0)


def test_nobody_runs_more_than_two_steps_ahead_of_the_screen() -> None:
    for window in (1, 4):
        info = WorldInfo("tiny", "hash", 96, 144, latents_per_step=window)
        furthest = 7 + STEPS_AHEAD * window
        pace = Pace(index=0, start=0.0, shown=7)
        assert pace.wait(furthest, info, now=0.0) is not None
        assert pace.wait(furthest + 1, info, now=0.0) is None


def test_a_paused_pace_lets_no_step_start() -> None:
    assert Pace.standing().paused and Pace(0, math.inf, 9).wait(0, INFO, now=0.0) is None
    assert not Pace(0, 0.0, -1).paused


def test_stages_are_told_with_their_seconds_to_whoever_listens() -> None:
    heard: list[StageReport | Notice] = []
    say = Reporter()
    say("cluster", 5, "nobody hears this")
    say.to(heard.append)
    say("models", 35, "loading")
    say.tell("prompt", "not known here: dragon")
    stage, notice = heard
    assert isinstance(stage, StageReport) and 0 <= stage.seconds < 5
    assert (stage.stage, stage.percent, stage.message) == ("models", 35, "loading")
    assert notice == Notice("prompt", "not known here: dragon")


def test_a_take_has_a_prompt_for_every_label() -> None:
    with pytest.raises(AssertionError):
        Take(1, ("D", "D"), ("a road",))

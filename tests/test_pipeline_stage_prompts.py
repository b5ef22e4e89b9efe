"""Prompts: pending, then shown or failed; the newest wins."""

import asyncio

import pytest

from configs.errors import UserError
from pipeline.stage.audience import Audience
from pipeline.stage.prompts import Prompts
from tests.shown import shown
from tests.squares import Squares
from tests.until import settled


class Slow(Squares):
    """Reads a prompt when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.read: list[tuple[str, int]] = []

    async def set_prompt(self, text, version):
        await self.go.wait()
        self.read.append((text, version))
        await super().set_prompt(text, version)


def made() -> tuple[Prompts, Slow, list[tuple[int, str, str]]]:
    source, audience = Slow(), Audience()
    told: list[tuple[int, str, str]] = []
    audience.tell = lambda kind, **data: told.append(  # type: ignore[method-assign]
        (data["version"], data["text"], data["state"])
    )
    return Prompts("a road", source, audience), source, told


def test_the_newest_of_many_is_read_and_those_overtaken_are_not() -> None:
    async def act() -> None:
        prompts, source, _ = made()
        for text in ("snow", "rain", "night"):
            prompts.add(text)
        await asyncio.sleep(0)
        source.go.set()
        await settled()
        assert source.read == [("night", 3)]

    asyncio.run(act())


def test_a_flood_of_prompts_is_forgotten() -> None:
    async def act() -> None:
        prompts, _, _ = made()
        for number in range(500):
            prompts.add(f"a road {number}")
        assert prompts.newest()["text"] == "a road 499"
        await prompts.close()
        assert len(str([each for each in vars(prompts).values() if "a road" in str(each)])) < 200

    asyncio.run(act())


def test_a_prompt_is_pending_until_frames_follow_it() -> None:
    async def act() -> None:
        prompts, source, told = made()
        source.go.set()
        prompts.add("snow")
        assert told == [(1, "snow", "pending")] and prompts.newest()["state"] == "pending"
        await settled()
        assert prompts.text == "a road" and len(told) == 1
        prompts.came_through(shown(prompt="a road", prompt_version=0))
        prompts.came_through(shown(prompt="snow", prompt_version=1))
        prompts.came_through(shown(prompt="snow", prompt_version=1))
        assert told[1:] == [(0, "a road", "shown"), (1, "snow", "shown")]
        assert prompts.text == "snow" and prompts.newest()["state"] == "shown"

    asyncio.run(act())


def test_one_that_the_world_refuses_is_failed_with_the_reason() -> None:
    async def act() -> None:
        prompts, source, told = made()
        source.go.set()
        prompts.add("impossible")
        await settled()
        assert told[-1] == (1, "impossible", "failed")

    asyncio.run(act())


def test_what_is_no_prompt_is_refused_and_changes_nothing() -> None:
    prompts, _, told = made()
    with pytest.raises(UserError, match="prompt"):
        prompts.add(" ")
    assert not told and prompts.newest()["version"] == 0
    with pytest.raises(UserError, match="prompt"):
        Prompts(" ", Squares(), Audience())

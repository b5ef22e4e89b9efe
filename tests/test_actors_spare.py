"""A spare worker: there when it is needed, and gone with what it was kept for."""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from actors import spare as module
from actors.records import Identity
from actors.spare import Spare
from tests.until import until


@dataclass
class Idle:
    """An actor of Ray's, as far as a spare asks it: a process that does nothing. ``silent``: it was
    stopped before it could say who it is."""

    process: "subprocess.Popen[bytes]"
    silent: bool = False

    @property
    def identity(self) -> Any:
        return self

    async def remote(self) -> Identity:
        if self.silent:
            await asyncio.Event().wait()
        return Identity(self.process.pid, "here", "node", 0.0)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)


class Place:
    """Where spares come from; ``made`` are all of them."""

    def __init__(self) -> None:
        self.made: list[Idle] = []
        self.spare = Spare(self.spawn, lambda idle: None, asyncio.Lock())

    def spawn(self) -> Idle:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        self.made.append(Idle(subprocess.Popen(command)))
        return self.made[-1]

    async def taken(self) -> Any:
        """The spare, when there is one."""
        self.spare.prepare()
        await until(lambda: self.spare._process is not None)
        return self.spare.take()

    async def __aenter__(self) -> "Place":
        return self

    async def __aexit__(self, *_: object) -> None:
        for idle in self.made:
            idle.process.kill()
            idle.process.wait()


def test_it_is_taken_once_and_another_is_prepared() -> None:
    async def whole() -> None:
        async with Place() as place:
            assert place.spare.take() is None
            first = await place.taken()
            assert first is place.made[0] and place.spare.take() is None
            assert await place.taken() is place.made[1]
            await place.spare.end()
            assert all(psutil.pid_exists(idle.process.pid) for idle in place.made), "not spares"

    run(whole())


def test_one_that_was_stopped_is_not_taken_but_replaced() -> None:
    async def whole() -> None:
        async with Place() as place:
            place.spare.prepare()
            await until(lambda: place.spare._process is not None)
            stopped = psutil.Process(place.made[0].process.pid)
            stopped.suspend()
            await until(lambda: stopped.status() == psutil.STATUS_STOPPED)
            assert place.spare.take() is None
            place.spare.prepare()
            await until(lambda: len(place.made) == 2)
            assert place.made[0].process.wait(10) and await place.taken() is place.made[1]

    run(whole())


def test_one_that_is_being_prepared_ends_with_it() -> None:
    async def whole() -> None:
        async with Place() as place:
            place.spare.prepare()
            await asyncio.sleep(0)
            await place.spare.end()
            assert place.spare.take() is None and place.spare._preparing is None

    run(whole())


def test_one_that_never_comes_up_keeps_no_other_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.2)

    async def whole() -> None:
        async with Place() as place, Place() as other:
            other.spare._turn = place.spare._turn
            spawn = place.spawn

            def stopped() -> Idle:
                idle = spawn()
                idle.silent = len(place.made) == 1
                return idle

            place.spare._spawn = stopped
            place.spare.prepare()
            await until(lambda: len(place.made) == 1)
            assert await other.taken() is other.made[0] and place.spare.take() is None
            assert await place.taken() is place.made[1]

    run(whole())

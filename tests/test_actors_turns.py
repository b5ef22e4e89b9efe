"""Turns of several worlds on one replica."""

import asyncio
from collections.abc import Sequence

import pytest

from actors.turns import DECODES, Turns


def order(deadlines: Sequence[float]) -> list[float]:
    """In which order those who ask at once come."""

    async def run() -> list[float]:
        turns, came = Turns(), []
        await turns.take(-1.0)

        async def ask(deadline: float) -> None:
            await turns.take(deadline)
            came.append(deadline)
            turns.leave()

        tasks = [asyncio.create_task(ask(deadline)) for deadline in deadlines]
        await asyncio.sleep(0)
        assert came == []
        turns.leave()
        await asyncio.gather(*tasks)
        return came

    return asyncio.run(run())


def test_the_earliest_deadline_comes_first() -> None:
    assert order([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]


def test_one_step_at_a_time_and_as_many_decodes_as_keep_the_decoder_busy() -> None:
    async def run() -> None:
        turns = Turns()
        for _ in range(DECODES):
            await turns.take(0.0)
            turns.stepped()
        waits = asyncio.create_task(turns.take(0.0))
        await asyncio.sleep(0)
        assert not waits.done()
        turns.decoded()
        await waits

    asyncio.run(run())


@pytest.mark.parametrize("granted", [False, True])
def test_who_is_gone_holds_nobody_up(granted: bool) -> None:
    async def run() -> None:
        turns = Turns()
        await turns.take(0.0)
        gone = asyncio.create_task(turns.take(1.0))
        waits = asyncio.create_task(turns.take(2.0))
        await asyncio.sleep(0)
        if granted:
            turns.leave()  # it is the turn of the one that goes in the same moment
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if not granted:
            turns.leave()
        await asyncio.wait_for(waits, 1.0)

    asyncio.run(run())

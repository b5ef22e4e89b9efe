"""Several worlds in one launcher: each with its own begin, frames and end. The sources are drawn
(tests/squares.py), so that a world costs nothing."""

import asyncio
import contextlib

import pytest

from configs.errors import UserError
from pipeline import worlds as module
from pipeline.beginning import Beginning
from pipeline.hosted_world import HostedWorld
from pipeline.stage.show import Show
from pipeline.worlds import NoRoom, Worlds
from tests.live import Making
from tests.squares import Squares
from tests.until import until


class Fragile(Squares):
    """Breaks beyond repair when told to."""

    broken = False

    async def next(self):
        chunk = await super().next()
        if self.broken:
            raise RuntimeError("nothing is left")
        return chunk


class Studio:
    """Worlds of drawn sources, and all sources that were made."""

    def __init__(self, own: Show | None = None, many: bool = True, **settings) -> None:
        self.sources: list[Fragile] = []
        source = self.source()
        own = own or Show(source, seed=1, prompt="the first")
        self.host = Making(self.make)
        self.worlds = Worlds(own, self.host if many else None, **settings)

    def source(self) -> Fragile:
        self.sources.append(Fragile())
        return self.sources[-1]

    async def make(self) -> Fragile:
        return self.source()

    async def new(self, prompt: str = "another", seed: int = 2) -> HostedWorld:
        world = await self.worlds.new(Beginning(prompt, seed))
        await until(lambda: world.show.ready)
        return world


def run(body, **settings):
    """``body`` over worlds that play; what ``run`` raised, if it did."""

    async def whole():
        studio = Studio(**settings)
        running = asyncio.create_task(studio.worlds.run())
        with contextlib.suppress(BaseException):
            await until(lambda: studio.worlds.own.show.ready or running.done())
        try:
            await body(studio, running)
        finally:
            studio.worlds.stop("the test is over")
            (ended,) = await asyncio.gather(running, return_exceptions=True)
        assert all(source.closed for source in studio.sources)
        return ended

    return asyncio.run(whole())


def test_worlds_have_their_own_seed_prompt_controls_and_pause():
    async def body(studio, running):
        own, other = studio.worlds.own, await studio.new("a sea", 9)
        assert (other.show.seed, other.show.prompt, own.show.seed) == (9, "a sea", 1)
        assert list(studio.worlds) == [own, other] and studio.worlds.get(other.id) is other
        other.show.hold("DL")
        other.show.pause()
        own.show.reset(5)
        await until(lambda: own.show.newest.epoch == own.show.epoch and own.show.newest.index > 8)
        assert own.show.held == "D" and not own.show.paused
        assert (other.show.seed, other.show.epoch) == (9, 0) and other.show.paused

    assert run(body) is None


def test_a_world_that_breaks_ends_alone():
    async def body(studio, running):
        other = await studio.new()
        studio.sources[1].broken = True
        await other.over.wait()
        assert str(other.fault) == "nothing is left" and studio.worlds.get(other.id) is None
        shown = studio.worlds.own.show.newest.index
        await until(lambda: studio.worlds.own.show.newest.index > shown + 4)
        assert studio.worlds.tally.broken == 1 and not running.done()

    assert run(body) is None


def test_the_launchers_own_may_break_while_others_live_but_the_last_ends_the_run():
    async def body(studio, running):
        other = await studio.new()
        studio.sources[0].broken = True
        await studio.worlds.own.over.wait()
        await asyncio.sleep(0.1)
        assert not running.done() and list(studio.worlds) == [other]
        studio.sources[1].broken = True
        with pytest.raises(RuntimeError, match="nothing is left"):
            await asyncio.wait_for(asyncio.shield(running), 5)

    assert str(run(body)) == "nothing is left"


def test_what_ends_the_launchers_own_world_by_itself_ends_the_run():
    async def body(studio, running):
        other = await studio.new()
        studio.worlds.own.show.stop("the duration is over")
        await asyncio.wait_for(asyncio.shield(running), 5)
        assert other.over.is_set() and not len(studio.worlds)

    assert run(body) is None


def test_a_world_ended_on_request_leaves_the_launcher_waiting_for_the_next():
    async def body(studio, running):
        own = studio.worlds.own
        assert studio.worlds.end(own.id) is own and studio.worlds.end("no such") is None
        await own.over.wait()
        await asyncio.sleep(0.1)
        assert not running.done() and not len(studio.worlds)
        assert (await studio.new()).show.ready

    assert run(body) is None


def test_there_are_no_more_than_asked_for_even_at_once():
    async def body(studio, running):
        asked = [studio.worlds.new(Beginning("a car", seed)) for seed in range(5)]
        made = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, HostedWorld) for one in made) == 2
        assert sum(isinstance(one, NoRoom) for one in made) == 3
        assert studio.worlds.room == 0 and studio.worlds.tally.refused == 3
        studio.worlds.end(next(one for one in made if isinstance(one, HostedWorld)).id)
        await until(lambda: studio.worlds.room == 1)

    assert run(body, most=3) is None


def test_two_that_begin_at_once_never_share_an_address():
    async def body(studio, running):
        async def slowly():
            await asyncio.sleep(0.05)
            return studio.source()

        studio.host.make = slowly
        asked = [studio.worlds.new(Beginning("a car", seed, id="0a1b2c3d")) for seed in (1, 2)]
        first, second = await asyncio.gather(*asked)
        assert first.id == "0a1b2c3d" != second.id and len(studio.worlds) == 3
        assert {world.show.seed for world in studio.worlds} == {1, 2}
        await until(lambda: first.show.ready and second.show.ready)
        studio.worlds.end(second.id)
        await second.over.wait()
        assert studio.worlds.get(first.id) is first and studio.worlds.room == 6

    assert run(body) is None


def test_who_is_made_while_the_launcher_ends_is_let_go_again():
    async def body(studio, running):
        going = asyncio.Event()

        async def slowly():
            going.set()
            await asyncio.sleep(0.3)
            return studio.source()

        studio.host.make = slowly
        asked = asyncio.create_task(studio.worlds.new(Beginning("a car", 1)))
        await going.wait()
        studio.worlds.stop("the launcher ends")
        await asyncio.wait_for(asyncio.shield(running), 5)
        assert studio.worlds.room == 0
        with pytest.raises(NoRoom, match="the launcher ends"):
            await asked
        assert not len(studio.worlds) and studio.worlds.tally.opened == 1

    assert run(body) is None


def test_there_are_no_more_than_keep_their_frame_rate():
    async def body(studio, running):
        studio.host.capacity = 1
        with pytest.raises(NoRoom):  # nobody knows yet
            await studio.worlds.new(Beginning("a car", 1))
        studio.host.capacity = 2
        assert studio.worlds.room == 1 and await studio.new()
        assert studio.worlds.room == 0 and studio.worlds.estimate(1) is None

    assert run(body) is None


def test_the_summary_tells_of_every_world():
    async def body(studio, running):
        other, broken = await studio.new("a sea", 9), await studio.new()
        studio.sources[2].broken = True
        await broken.over.wait()
        records = {record["id"]: record for record in studio.worlds.records()}
        assert set(records) == {"first", other.id, broken.id}
        assert records[other.id]["seed"] == 9 and records[other.id]["frames"] > 0
        assert records[broken.id]["fault"] == "nothing is left" and "fault" not in records["first"]

    assert run(body) is None


def test_one_world_only_where_no_other_can_be_made():
    async def body(studio, running):
        with pytest.raises(UserError, match="one world only"):
            await studio.worlds.new(Beginning("a car", 1))

    assert run(body, many=False) is None


def test_who_cannot_be_made_takes_no_room():
    async def broken():
        raise UserError("no such weights")

    async def body(studio, running):
        studio.host.make = broken
        with pytest.raises(UserError, match="no such weights"):
            await studio.worlds.new(Beginning("a car", 1))
        assert studio.worlds.room == 7

    assert run(body) is None


def test_a_world_nobody_watches_rests_and_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    async def body(studio, running):
        world = await studio.new()
        seen = world.show.subscribe()
        await asyncio.sleep(0.6)
        assert not world.resting and studio.worlds.own.resting, "who is watched does not rest"
        seen.close()
        await until(lambda: world.resting)
        rested = world.show.newest.index
        await asyncio.sleep(0.4)
        assert world.show.newest.index <= rested + 1 and world.show.ready
        studio.worlds.arrive(world)
        assert not world.show.paused and not world.resting
        seen = world.show.subscribe()
        await until(lambda: world.show.newest.index > rested, 1.0)
        seen.close()
        assert world.show.newest.epoch == 0 and studio.worlds.tally.woken == 1

    assert run(body, rest=0.3) is None


def test_a_world_that_rests_keeps_its_place(monkeypatch):
    """Who comes back never waits, however many would like to begin one meanwhile."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    async def body(studio, running):
        studio.host.capacity = 2
        other = await studio.new()
        await until(lambda: other.resting and studio.worlds.own.resting)
        ticket = await studio.worlds.ask(Beginning("a car", 3))
        assert isinstance(ticket, str) and await studio.worlds.ask_again(ticket) == 1
        for world in studio.worlds:
            rested = world.show.newest.index
            studio.worlds.arrive(world)
            seen = world.show.subscribe()
            assert studio.worlds.room == 0 and await studio.worlds.ask_again(ticket) == 1
            await until(lambda rested=rested, world=world: world.show.newest.index > rested, 1.0)
            seen.close()
        studio.worlds.end(other.id)  # a person gives the place away
        await other.over.wait()
        assert isinstance(await studio.worlds.ask_again(ticket), HostedWorld)

    assert run(body, rest=0.3) is None


def test_a_world_that_is_recorded_or_paused_by_its_driver_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    async def body(studio, running):
        recorded = await studio.new()
        recorded.show.tape.log(tmp_path / "x.jsonl")
        paused = await studio.new()
        paused.show.pause()
        await asyncio.sleep(0.8)
        assert not recorded.resting and not paused.resting
        studio.worlds.arrive(paused)
        assert paused.show.paused, "who paused it finds it paused"

    assert run(body, rest=0.4) is None

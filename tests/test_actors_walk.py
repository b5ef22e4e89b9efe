"""Back to any moment, into a file and out of it, over a rest and in another launcher: real sessions
with real workers, in this process (tests/local.py)."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.fleet import Fleet
from actors.journal.drive import read_drive
from actors.journal.journal import Journal
from actors.journal.kept import KeptSession
from actors.journal.place import StateFolder
from actors.journal.records import Head
from actors.layout import Layout
from actors.session import Session
from actors.source import Pace, Take
from configs.choice import WeightChoice
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.parts import Parts
from pipeline.launch import describe
from tests.dream import again
from tests.local import local_fleet
from tests.tiny_checkpoint import PROMPTS, write_checkpoint
from tests.until import until

ENGINE = "torch-fp32"
LABELS = (*("D",) * 5, *("DL",) * 4, "DR", "B", "N") * 5
TEXTS = (*(PROMPTS[0],) * 11, *(PROMPTS[1],) * 23, *(PROMPTS[2],) * 26)
TAKE = Take(7, LABELS, TEXTS)


@pytest.fixture(scope="module", params=[False, True], ids=["tiny", "full"])
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> WeightChoice:
    folder = tmp_path_factory.mktemp("w") / "stage4"
    write_checkpoint(folder, late_labels=1, full_vae=request.param)
    return WeightChoice(folder, engine=ENGINE)


@pytest.fixture(scope="module")
def whole(weights: WeightChoice) -> np.ndarray:
    """The frames of the undisturbed drive."""
    checkpoint = replace(Checkpoint.open(weights), engine=ENGINE)
    return again(Parts(checkpoint, torch.device("cpu")), TAKE)


class Driver:
    """Drives a source by the labels and prompts of the take, and holds its frames against it."""

    def __init__(self, source: Session | KeptSession, whole: np.ndarray) -> None:
        self.source, self.whole, self.prompt = source, whole, PROMPTS[0]

    async def go(self, index: int, stop: int) -> None:
        """From latent ``index``, which comes next, to before ``stop``."""
        while index < stop:
            if TEXTS[index] != self.prompt:
                self.prompt = TEXTS[index]
                await self.source.set_prompt(self.prompt, index)
            self.source.hold(LABELS[index], index)
            ahead = not index  # the full decoder shows its first latent with the second
            self.source.pace(Pace(index, 0.0, index - 2 + ahead))
            chunk = await asyncio.wait_for(self.source.next(), 20)
            first, count = chunk.first_frame, len(chunk.frames)
            assert chunk.index == index, "nothing is left out"
            assert (chunk.frames == self.whole[first : first + count]).all(), index
            index += len(chunk.labels)

    async def back(self, latent: int) -> None:
        moment = self.source.moment(latent)
        self.prompt = moment.prompt
        self.source.open(moment)


def driven(
    weights: WeightChoice, body: Callable[[Fleet, Checkpoint], Coroutine[Any, Any, None]]
) -> None:
    """Run ``body`` with a fleet."""
    checkpoint = replace(Checkpoint.open(weights), engine=ENGINE)
    info = replace(describe(checkpoint, Layout(1, 1)), engine=ENGINE)

    async def run() -> None:
        fleet = local_fleet(info, weights)
        try:
            await body(fleet, checkpoint)
        finally:
            await fleet.close()

    asyncio.run(run())


async def begun(source: Session | KeptSession, whole: np.ndarray) -> Driver:
    await source.start(7, PROMPTS[0], lambda report: None)
    return Driver(source, whole)


def test_a_moment_is_saved_exactly_and_goes_on_elsewhere(
    weights: WeightChoice, whole: np.ndarray, tmp_path: Path
) -> None:
    """Also before and behind a change of the prompt, while another world is driven."""

    async def body(fleet: Fleet, checkpoint: Checkpoint) -> None:
        mine, other = await begun(Session(fleet), whole), await begun(Session(fleet), whole)
        await mine.go(0, 40)
        paths = {latent: tmp_path / f"{latent}.world" for latent in (2, 13, 16, 39)}
        saving = []
        for latent, path in paths.items():
            led = Take(7, LABELS[:latent], TEXTS[:latent])
            saving.append(mine.source.save(mine.source.moment(latent), led, path))
        await asyncio.gather(*saving, other.go(0, 12))
        await mine.go(40, 44)
        for latent, path in paths.items():
            opened = Session(fleet)
            moment, led = await opened.load(path)
            assert (moment.latent, led.labels) == (latent, LABELS[:latent])
            await opened.start(7, moment.prompt, lambda report: None, moment)
            there = Driver(opened, whole)
            there.prompt = moment.prompt
            await there.go(latent, latent + 6)
            await opened.close()
        if not checkpoint.tiny:
            with pytest.raises(UserError, match="take the next one"):
                led = Take(7, LABELS[:1], TEXTS[:1])
                await mine.source.save(mine.source.moment(1), led, tmp_path / "1.world")

    driven(weights, body)


@pytest.mark.parametrize("weights", [False], ids=["tiny"], indirect=True)
def test_after_a_rest_and_in_another_launcher_one_can_go_back(
    weights: WeightChoice, whole: np.ndarray, tmp_path: Path
) -> None:
    state = StateFolder(tmp_path)

    async def rests(fleet: Fleet, checkpoint: Checkpoint) -> None:
        head = Head(checkpoint.name, checkpoint.world_hash, ENGINE, 1.75e9)
        kept = KeptSession(Session(fleet), Journal(state.new(), head, checkpoint))
        driver = await begun(kept, whole)
        await driver.go(0, 44)
        folder = next(tmp_path.glob("2*"))
        await until(lambda: len(list(folder.glob("*.world"))) == 2)
        kept.pace(Pace.standing())
        kept.rest()
        assert kept.kept() == [44]
        await driver.go(44, 46)
        await until(lambda: kept.kept()[0] == 16)
        await driver.back(20)
        await driver.go(20, 56)
        await until(lambda: len(list(folder.glob("*.world"))) >= 3)
        kept._broke = True  # as if the launcher had died
        await kept.close()

    async def goes_on(fleet: Fleet, checkpoint: Checkpoint) -> None:
        place = state.hold_newest()
        drive = read_drive(place.folder, checkpoint)
        assert len(drive.past) >= 1
        kept = KeptSession(
            Session(fleet), Journal(place, drive.head, checkpoint, drive.story), drive
        )
        driver = await begun(kept, whole)
        kept.reset(7, drive.take)
        await driver.go(drive.shown, 56)
        assert kept.kept()[0] == drive.past[0].index
        await driver.back(drive.past[0].index + 5)
        await driver.go(drive.past[0].index + 5, 58)
        await kept.close()

    driven(weights, rests)
    driven(weights, goes_on)

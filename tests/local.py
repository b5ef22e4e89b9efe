"""A fleet whose workers live in this process, for tests: all is real but Ray, whose part is to carry
calls and values, pickled, as here."""

import asyncio
import itertools
import pickle
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import torch

from actors.dit import DitWorker
from actors.fleet import Fleet
from actors.layout import Layout
from actors.repair import T
from actors.replica import Replica
from actors.source import WorldInfo
from actors.text import TextWorker
from actors.vae import VaeWorker
from actors.worker import Worker
from configs.choice import WeightChoice
from models.device import use_threads


class LocalGang:
    """What a replica asks of a gang (actors/gang.py), of one worker here, which has no node."""

    alive, size, stopped, clock_offset, logs = True, 1, False, 0.0, Path("/")

    def __init__(self, name: str, worker: Worker) -> None:
        self.name, self.pids = name, {name: 1}
        self._worker = worker

    def ask(self, method: str, *arguments: Any, returns: int = 1) -> list[Any]:
        made = [self._done() for _ in range(returns)]
        try:
            plain = [each.result() if asyncio.isfuture(each) else each for each in arguments]
            call = getattr(self._worker, method) if method != "identity" else lambda: None
            value: Any = call(*pickle.loads(pickle.dumps(plain)))
            values = [value] if returns == 1 else value
            for future, each in zip(made, values, strict=True):
                future.set_result(pickle.loads(pickle.dumps(each)))
        except Exception as error:
            for future in made:
                future.set_exception(error)
        return [made[0] if returns == 1 else made]

    def _done(self) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.exception())
        return future


class LocalGroups:
    """What a fleet asks of its groups (actors/groups.py): one replica that never breaks."""

    lost = False

    def __init__(self, weights: WeightChoice) -> None:
        self._threads = torch.get_num_threads()
        kinds: tuple[type[Worker], ...] = (DitWorker, VaeWorker, TextWorker)
        workers = [kind(weights, 0, 1) for kind in kinds]
        for worker in workers:
            worker.join("file:///unused")
        use_threads(1)
        dit, vae, self.text = itertools.starmap(LocalGang, zip("dvt", workers, strict=True))
        self.replicas = [Replica()]
        self.replicas[0].man(dit, vae)  # type: ignore[arg-type]

    async def open(self) -> None:
        pass

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def text_worker(self) -> LocalGang:
        return self.text

    async def unless_lost(self, work: Awaitable[T]) -> T:
        return await work

    async def close(self) -> None:
        torch.set_num_threads(self._threads)


def local_fleet(info: WorldInfo, weights: WeightChoice) -> Fleet:
    """A fleet of one replica in this process."""
    fleet = Fleet(info, weights, Layout(1, 1))
    groups: Any = LocalGroups(weights)
    fleet.groups = fleet.prompts._groups = groups
    return fleet

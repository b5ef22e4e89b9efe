"""What a second replica on a second node adds: two Ray nodes on this machine, each on one processor, as
many worlds as keep both busy, stepped as fast as they come; nobody watches.

The launcher needs processors too. "alone" lets it use one that the only replica leaves free, so the
second replica has to share with it; "together" keeps everything of the first on one processor, which is
what twice the machine is compared with.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from actors.fleet import Fleet
from actors.layout import Layout
from actors.nodes import pinned_nodes
from actors.session import Session
from actors.source import Pace
from configs.errors import UserError
from configs.schema import RunConfig
from models.controls import LABELS
from pipeline.bench.options import Options
from pipeline.bench.processes import in_a_process
from pipeline.bench.table import table
from pipeline.launch import Launch

WORLDS: Final = 4  # of each replica: one is stepped, one decoded, others wait
SPARES_SECONDS: Final = 20.0  # nothing else runs until spare workers have started (actors/spare.py)
SETTLE_SECONDS: Final = 3.0  # after worlds race again
ONE: Final = Layout(1, 1)


def measure(options: Options) -> dict[str, Any]:
    """Latents a second of one replica and of two. Raises UserError where there is one processor."""
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        raise UserError("bench scaling: expected two processors or more, this process may use one")
    first, seconds = processors[:1], options.seconds / 3
    rates = {
        "one replica, launcher beside it": _measured(options.model, seconds, first, processors),
        "one replica, launcher with it": _measured(options.model, seconds, first, first),
        "two replicas": _measured(options.model, seconds, processors, processors),
    }
    table(("pinned to one processor each", "latents/s"), list(rates.items()))
    beside, with_it, two = rates.values()
    print(f"two are {two / beside:.2f} times one beside the launcher, {two / with_it:.2f} with it")
    return {"rates": rates, "beside": round(two / beside, 3), "with": round(two / with_it, 3)}


def _measured(model: Path, seconds: float, nodes: Sequence[int], own: Sequence[int]) -> float:
    return round(in_a_process(rate, model, seconds, nodes, own), 1)


def rate(model: Path, seconds: float, nodes: Sequence[int], own: Sequence[int]) -> float:
    """Latents a second of one replica on each of these processors; the launcher, this process, may use
    ``own``."""
    os.sched_setaffinity(0, own)
    return asyncio.run(_rate(model, seconds, nodes))


async def _rate(model: Path, seconds: float, nodes: Sequence[int]) -> float:
    config = RunConfig(
        model_path=model,
        visible_devices=(),
        headless=True,
        no_state=True,
        num_gpus_dit=ONE.dit,
        num_gpus_vae=ONE.vae,
        replicas=len(nodes),
    )
    launch = Launch.make(config)
    async with pinned_nodes(nodes, ONE) as address:
        fleet = Fleet(launch.info, launch.weights, launch.layout, address)
        worlds = [
            Racing(Session(fleet), launch.prompt, seed) for seed in range(WORLDS * len(nodes))
        ]
        race = asyncio.Event()
        racing = [asyncio.create_task(world.run(race)) for world in worlds]
        try:
            await asyncio.gather(*(world.begun.wait() for world in worlds))
            await asyncio.sleep(SPARES_SECONDS)
            race.set()
            await asyncio.sleep(SETTLE_SECONDS)
            before, began = sum(world.latents for world in worlds), time.monotonic()
            await asyncio.sleep(seconds)
            made = sum(world.latents for world in worlds) - before
            return made / (time.monotonic() - began)
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)
            await fleet.close()


class Racing:
    """A world that is stepped once, and then as fast as its replica can."""

    def __init__(self, session: Session, prompt: str, seed: int) -> None:
        self.latents = 0
        self.begun = asyncio.Event()
        self._session, self._prompt, self._seed = session, prompt, seed

    async def run(self, race: asyncio.Event) -> None:
        """For ever, but after the first latent not before the race."""
        await self._session.start(self._seed, self._prompt, lambda report: None)
        while True:
            self._session.hold(LABELS[self.latents // 8 % len(LABELS)], self.latents)
            self._session.pace(Pace(self.latents, 0.0, self.latents - 1))
            await self._session.next()
            self.latents += 1
            self.begun.set()
            await race.wait()

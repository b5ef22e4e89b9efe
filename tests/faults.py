"""Many seeded faults, one after the other: what they cost, and whether every frame is that of an
undisturbed run.

    python -m tests.faults workers --seeds 0-99 --file faults.jsonl [--minutes 8]
    python -m tests.faults head --seeds 0-19 --file faults.jsonl
    python -m tests.faults launcher --seeds 0-19 --file faults.jsonl
    python -m tests.faults report --file faults.jsonl

Each seed is one line of JSON in FILE; a seed that is there already is not run again, so that a long
list is run in pieces: --minutes ends one before its next seed. Worlds are those of the weights that
are shipped, on the engine of this machine (--model-path, --engine), with 128 frames each.

- workers: one fault or two of the DiT, VAE or text worker, killed or stopped, the second while the
  first is mended or after it; one world or three. "pause" is the longest gap between two frames.
- head: the Ray head, a raylet or the guardian is killed while one world or two are shown.
- launcher: the program itself is killed, with all that it wrote, and started again with --continue;
  "pause" is the time from that start to the first frame at a client.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from actors.repair import Faults
from actors.session import Session
from actors.source import Take
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from models.parts import Parts
from pipeline.clients.client import connect
from pipeline.launch import Launch
from tests.dream import again
from tests.drive import SIGNALS, family
from tests.launcher import Launcher
from tests.many import ShownWorld
from tests.test_pipeline_hosting import Watching
from the_matrix import the_matrix

LABELS = ["D"] * 6 + ["DL"] * 4 + ["DR"] * 5 + ["B"] * 3 + ["D", "N"] * 7
TEXTS = ["A red car drives on a desert road in daylight."] * 9
TEXTS += ["A white car drives in a snowy forest at night."] * (len(LABELS) - 9)
DAEMONS = ("gcs_server", "raylet", "guardian")
Fault = list[Any]  # [frame, "kill" | "stop", name, seconds later], as tests/many.py takes them


@dataclass(frozen=True)
class Outcome:
    """One line. pause in seconds; load: of the machine, when it was over."""

    kind: str
    seed: int
    worlds: int
    faults: list[Fault]
    equal: bool
    pause: float
    restarts: int
    error: str
    load: float


def worker_faults(seed: int) -> tuple[list[Fault], int]:
    """Faults of workers, and in how many worlds they are seen."""
    choice = Random(seed)
    kinds = ["kill", "kill", "kill", "stop"]
    names = ["dit 0", "vae 0", "text 0"]
    faults = [[choice.randint(1, 48), choice.choice(kinds), choice.choice(names), 0.0]]
    if seed % 2:
        again = [choice.choice(kinds), choice.choice(names), choice.uniform(0.0, 4.0)]
        faults.append([faults[0][0], *again])
    return faults, choice.choice([1, 3])


def head_faults(seed: int) -> tuple[list[Fault], int]:
    """One of Ray's own processes, or who keeps them."""
    choice = Random(seed)
    return [[choice.randint(1, 64), "kill", DAEMONS[seed % 3], 0.0]], choice.choice([1, 2])


class Stage:
    """One fleet, on which a seed after the other is played."""

    def __init__(self, launch: Launch) -> None:
        self.launch, self.fleet = launch, launch.fleet()
        self.parts = Parts(Checkpoint.open(launch.weights), torch.device("cpu"))
        self._alone: dict[int, np.ndarray] = {}

    async def play(self, kind: str, seed: int, faults: list[Fault], count: int) -> Outcome:
        """``count`` worlds, whose first one counts the frames of the faults."""
        self.fleet._faults = Faults()  # as if the last seed was a minute ago
        wanted = [{"seed": 7 + n, "labels": LABELS, "prompts": TEXTS} for n in range(count)]
        over = asyncio.Event()
        worlds = [ShownWorld(Session(self.fleet), spec, over) for spec in wanted]
        worlds[0].hurt, worlds[0].faults = self.hurt, faults
        await asyncio.gather(*(world.play() for world in worlds))
        pairs = zip(worlds, wanted, strict=True)
        equal = all(np.array_equal(world.frames(), self.alone(spec)) for world, spec in pairs)
        shows = [world.show.figures for world in worlds]
        return Outcome(
            kind=kind,
            seed=seed,
            worlds=count,
            faults=faults,
            equal=equal,
            pause=round(max(each.longest_gap for each in shows), 2),
            restarts=max(each.restarts for each in shows),
            error=next((world.error for world in worlds if world.error), ""),
            load=os.getloadavg()[0],
        )

    async def settle(self) -> None:
        """Let a world that nobody looks at find what broke when the others were over already. Raises
        RuntimeError where nothing can be mended any more."""
        spec = {"seed": 1, "labels": LABELS[:8], "prompts": TEXTS[:8]}
        while not self.whole:
            world = ShownWorld(Session(self.fleet), spec, asyncio.Event())
            await world.play()
            if world.error:
                raise RuntimeError(world.error)

    @property
    def whole(self) -> bool:
        """Everything lives that is to live."""
        groups = self.fleet.groups
        gangs = [groups.text, *(g for each in groups.replicas for g in (each.dit, each.vae))]
        serves = self.fleet._broken is not None and not groups.lost
        return serves and all(g.alive and not g.broken and not g.stopped for g in gangs)

    def hurt(self, kind: str, name: str) -> None:
        """Kill or stop a process of the run by its name. Raises KeyError where there is none."""
        pids = self.fleet.groups.pids | {each.name(): each.pid for each in family()}
        for each in family():
            if "actors.guardian" in each.cmdline():
                pids["guardian"] = each.pid
        os.kill(pids[name], SIGNALS[kind])

    def alone(self, spec: dict[str, Any]) -> np.ndarray:
        """The frames of a world that nothing disturbs."""
        if spec["seed"] not in self._alone:
            take = Take(spec["seed"], tuple(spec["labels"]), tuple(spec["prompts"]))
            self._alone[spec["seed"]] = again(self.parts, take)
        return self._alone[spec["seed"]]


async def inside(options: argparse.Namespace, todo: Iterable[int]) -> AsyncGenerator[Outcome, None]:
    """Faults inside one launcher, this process."""
    choose = worker_faults if options.what == "workers" else head_faults
    stage = Stage(Launch.make(config_of(options)))
    try:
        for seed in todo:
            yield await stage.play(options.what, seed, *choose(seed))
            await stage.settle()
    finally:
        await stage.fleet.close()


def config_of(options: argparse.Namespace) -> RunConfig:
    """Of a run as a person starts it, without its page."""
    path = Path(options.model_path) if options.model_path else None
    config = RunConfig(visible_devices=(), headless=True, no_state=True, engine=options.engine)
    return config if path is None else replace(config, model_path=path)


async def outside(
    options: argparse.Namespace, todo: Iterable[int]
) -> AsyncGenerator[Outcome, None]:
    """The program itself is killed."""
    launch = Launch.make(config_of(options))
    world = the_matrix(streaming_model_path=launch.weights.path, engine=launch.info.engine)
    settings = ("--engine", launch.info.engine, "--model-path", launch.weights.path)
    for seed in todo:
        with tempfile.TemporaryDirectory() as folder:
            command = ("--port", 0, "--state", folder, *settings)
            yield await killed(seed, Random(seed).randrange(8, 160), command, world)


async def killed(seed: int, cut: int, command: tuple[Any, ...], world: the_matrix) -> Outcome:
    """One launcher shows ``cut`` frames or a few more, another goes on."""
    first = Launcher(*command)
    watching = Watching(await connect(await address(first)))
    await watching.drive(cut)
    last = max(watching.frames)
    first.process.kill()
    await asyncio.to_thread(first.process.wait)
    begun = time.monotonic()
    second = Launcher(*command, "--continue")
    watching.client = await connect(await address(second))
    seen = len(watching.frames)
    await watching.drive(1)
    pause = time.monotonic() - begun
    resumed = list(watching.frames)[seen]
    await watching.drive(40)
    wrong = await watching.differ(world)
    await watching.client.close()
    await asyncio.to_thread(second.end, signal.SIGINT)
    where = "" if resumed <= last + 8 else f"went on at {resumed}, shown last was {last}"
    faults = [[cut, "kill", "launcher", 0.0]]
    load = os.getloadavg()[0]
    return Outcome("launcher", seed, 1, faults, not wrong, round(pause, 2), 0, where, load)


async def address(launcher: Launcher) -> str:
    """Where its page is."""
    found = await asyncio.to_thread(launcher.wait_for, r"open (http\S+)")
    return str(found[1])


def in_time(seeds: Sequence[int], minutes: float) -> Iterator[int]:
    """Those that begin before the time is over."""
    begun = time.monotonic()
    for seed in seeds:
        if time.monotonic() - begun < 60 * minutes:
            yield seed


def written(file: Path) -> list[Outcome]:
    """What is known already."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def report(outcomes: Sequence[Outcome]) -> str:
    """A line for every kind of faults."""
    lines = []
    for kind in dict.fromkeys(each.kind for each in outcomes):
        mine = [each for each in outcomes if each.kind == kind]
        equal = sum(each.equal and not each.error for each in mine)
        pauses = sorted(each.pause for each in mine)
        p50, p95 = (pauses[math.ceil(share * len(pauses)) - 1] for share in (0.5, 0.95))
        load = statistics.mean(each.load for each in mine)
        lines.append(
            f"{kind}: {equal} of {len(mine)} equal; pause p50 {p50:.1f}, p95 {p95:.1f},"
            f" max {pauses[-1]:.1f} s; load {load:.1f}"
        )
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> None:
    """Play what is not known yet."""
    done = {each.seed for each in written(options.file) if each.kind == options.what}
    first, _, last = options.seeds.partition("-")
    wanted = range(int(first), int(last or first) + 1)
    todo = in_time([seed for seed in wanted if seed not in done], options.minutes)
    play = outside if options.what == "launcher" else inside
    async with contextlib.aclosing(play(options, todo)) as outcomes:
        async for outcome in outcomes:
            with options.file.open("a") as lines:
                lines.write(json.dumps(asdict(outcome)) + "\n")
            print(outcome, flush=True)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["workers", "head", "launcher", "report"])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--model-path")
    parser.add_argument("--engine")
    options = parser.parse_args()
    if options.what != "report":
        asyncio.run(run(options))
    print(report(written(options.file)))


if __name__ == "__main__":
    main()

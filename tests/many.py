"""Several worlds on one fleet, in a launcher of their own, for tests: ``python -m tests.many
SPEC.json OUT.npz``.

SPEC: {"model": DIR, "dit": 1, "vae": 1, "replicas": 1, "address": HOST:PORT, "engine": NAME,
"worlds": [WORLD, ...], "faults": [[FRAME, "kill" | "stop", "dit 0", SECONDS LATER], ...]}. WORLD:
{"seed": 1, "labels": [...], "prompts": [...], "end": FRAME | null, "rests": [FRAME, SECONDS] | null,
"flood": FRAME | null, "poison": FRAME | null, "back": [FROM, TO] | null,
"save": {LATENT: PATH} | null, "open": PATH | null}. FRAME counts what its world has shown, for the
faults the first one. A world that ends at a FRAME does so by itself; one that rests is paused, its
memory given back, and woken; "flood" begins it anew a hundred times a second from then on until the
others are through; "poison" lets it go on from numbers that are none. One that goes "back" has no
show: it is driven as fast as it can, goes back once from latent FROM to TO, and is driven again by
the labels from TO on; at the end its moments before each LATENT are saved to PATH; with "open" it
goes on from such a file. OUT holds the frames of every world (``frames_0`` ...) and the rest as JSON
(``story``).
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.session import Session
from actors.source import Moment, Pace, Take
from actors.timeline import Route
from configs.schema import RunConfig
from pipeline.launch import Launch
from tests.drive import SIGNALS
from tests.watched import WatchedShow


async def many(spec: dict) -> tuple[list[np.ndarray], dict]:
    """Run it: the frames of each world, uint8 [n, H, W, 3], and what happened."""
    config = RunConfig(
        model_path=Path(spec["model"]),
        num_gpus_dit=spec.get("dit", 1),
        num_gpus_vae=spec.get("vae", 1),
        replicas=spec.get("replicas", 1),
        visible_devices=(),
        headless=True,
        ray_address=spec["address"],
        engine=spec["engine"],
    )
    fleet = Launch.make(config).fleet()
    through = asyncio.Event()
    kinds = [Walk if "back" in wanted else ShownWorld for wanted in spec["worlds"]]
    worlds = [
        kind(Session(fleet), wanted, through)
        for kind, wanted in zip(kinds, spec["worlds"], strict=True)
    ]
    first = worlds[0]
    if isinstance(first, ShownWorld):
        first.hurt = lambda kind, name: os.kill(fleet.groups.pids[name], SIGNALS[kind])
        first.faults = spec.get("faults", [])
    playing = [asyncio.create_task(world.play()) for world in worlds]
    await asyncio.gather(
        *(p for p, w in zip(playing, worlds, strict=True) if not w.wanted.get("flood"))
    )
    through.set()
    story = {
        "restarts": [
            world.show.figures.restarts for world in worlds if isinstance(world, ShownWorld)
        ],
        "gaps": [
            world.show.figures.longest_gap for world in worlds if isinstance(world, ShownWorld)
        ],
        "resets": [world.resets for world in worlds if isinstance(world, ShownWorld)],
        "errors": [world.error for world in worlds if isinstance(world, ShownWorld)],
        "nodes": fleet.groups.nodes,
    }
    await asyncio.gather(*playing)
    await fleet.close()
    return [world.frames() for world in worlds], story


class ShownWorld:
    """One of them, with a show."""

    def __init__(self, session: Session, wanted: dict, through: asyncio.Event) -> None:
        self.wanted, self.session, self.through = wanted, session, through
        take = Take(wanted["seed"], tuple(wanted["labels"]), tuple(wanted["prompts"]))
        self.show = WatchedShow(
            session,
            seed=wanted["seed"],
            prompt=wanted["prompts"][0],
            takes=[take],
            stop_after_takes=not wanted.get("flood"),
        )
        self.show.shown = self.shown
        self.faults: list[list] = []
        self.hurt: Callable[[str, str], None] = lambda kind, name: None
        self.resets = 0
        self.error = ""
        self.tasks: list[asyncio.Task] = []

    async def play(self) -> None:
        try:
            await self.show.run()
        except RuntimeError as error:
            self.error = str(error)
        await asyncio.gather(*self.tasks)

    def frames(self) -> np.ndarray:
        return np.stack([frame.image for frame in self.show.seen])

    def shown(self, frame: object) -> None:
        count, wanted = len(self.show.seen), self.wanted
        for at, kind, name, later in self.faults:
            if count == at:
                self.tasks.append(asyncio.create_task(self.strike(kind, name, later)))
        if wanted.get("end") == count:
            self.show.stop()
        if wanted.get("rests") and count == wanted["rests"][0]:
            self.tasks.append(asyncio.create_task(self.rest(wanted["rests"][1])))
        if wanted.get("poison") == count:
            self.session.open(spoilt(self.session.moment(self.session.kept()[-1])))
        if wanted.get("flood") == count:
            self.tasks.append(asyncio.create_task(self.flood()))

    async def strike(self, kind: str, name: str, later: float) -> None:
        await asyncio.sleep(later)
        while True:
            with contextlib.suppress(KeyError, ProcessLookupError):  # it is being replaced
                return self.hurt(kind, name)
            await asyncio.sleep(0.1)

    async def rest(self, seconds: float) -> None:
        self.show.pause()
        await asyncio.sleep(seconds / 2)
        self.session.rest()
        await asyncio.sleep(seconds / 2)
        self.show.resume()

    async def flood(self) -> None:
        while not self.through.is_set():
            self.show.reset(self.resets)
            self.resets += 1
            await asyncio.sleep(0.01)
        self.show.stop()


def spoilt(moment: Moment) -> Moment:
    """A moment from which nothing but NaN comes."""
    assert isinstance(moment.state, Route)
    commit = moment.state.commit
    assert commit.state is not None
    state = replace(commit.state, latents=commit.state.latents * float("nan"))
    return replace(moment, state=Route(replace(commit, state=state)))


class Walk:
    """One without a show, which goes back once."""

    def __init__(self, session: Session, wanted: dict, through: asyncio.Event) -> None:
        self.wanted, self.session = wanted, session
        self.seen: list[np.ndarray] = []

    async def play(self) -> None:
        session, wanted = self.session, self.wanted
        moment, index = None, 0
        if wanted.get("open"):
            moment, take = await session.load(Path(wanted["open"]))
            assert list(take.labels) == wanted["labels"][: moment.latent]
            index = moment.latent
        await session.start(wanted["seed"], wanted["prompts"][0], lambda report: None, moment)
        here, there = wanted["back"] or (len(wanted["labels"]), 0)
        await self.walk(index, here)
        if wanted["back"]:
            session.open(session.moment(there))
            await self.walk(there, len(wanted["labels"]))
        for latent, path in (wanted.get("save") or {}).items():
            saved = session.moment(int(latent))
            labels, prompts = (
                tuple(wanted[name][: saved.latent]) for name in ("labels", "prompts")
            )
            await session.save(saved, Take(saved.seed, labels, prompts), Path(path))
        await session.close()

    async def walk(self, index: int, stop: int) -> None:
        """Make the latents from ``index`` to before ``stop``, one at a time."""
        labels, prompts = self.wanted["labels"], self.wanted["prompts"]
        for latent in range(index, stop):
            if latent and prompts[latent] != prompts[latent - 1]:
                await self.session.set_prompt(prompts[latent], latent)
            self.session.hold(labels[latent], latent)
            self.session.pace(Pace(latent, 0.0, latent - 2))
            chunk = await self.session.next()
            assert (chunk.index, chunk.first_frame) == (latent, 4 * latent)
            self.seen.append(chunk.frames)

    def frames(self) -> np.ndarray:
        return np.concatenate(self.seen)


if __name__ == "__main__":
    frames, story = asyncio.run(many(json.loads(Path(sys.argv[1]).read_text())))
    named: dict[str, Any] = {f"frames_{number}": each for number, each in enumerate(frames)}
    np.savez(sys.argv[2], story=json.dumps(story), **named)

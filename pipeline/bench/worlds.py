"""How many worlds one launcher carries: real ones, each watched and steered by a client of its own.

A launcher admits worlds until it says that another would cost somebody's frames; all of them are then
driven for a while. Where they do not hold their rate, one after the other is ended until they do.
"""

import asyncio
import contextlib
import json
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import psutil

from configs.geometry import FPS, LATENTS_PER_SECOND
from configs.load import ROOT, child_environment
from models.controls import LABELS
from pipeline.bench.options import Options
from pipeline.bench.table import table
from pipeline.clients.client import Client, connect
from pipeline.clients.lobby import Lobby

START_SECONDS: Final = 180.0
ADMISSION_SECONDS: Final = 12.0  # without being admitted: there is no room for another
SPARES_SECONDS: Final = 10.0  # until spare workers have started as well (actors/spare.py)
SETTLE_SECONDS: Final = 3.0  # after a world came or went
HELD: Final = 0.99  # of the frame rate
LATE: Final = 0.001  # of the slots


def measure(options: Options) -> dict[str, Any]:
    """One world, and as many as are admitted and hold their rate."""
    return asyncio.run(_measure(options.model, options.seconds))


async def _measure(model: Path, seconds: float) -> dict[str, Any]:
    async with launched(model) as (launcher, url), Drivers() as drivers:
        await drivers.add(url)
        await asyncio.sleep(SPARES_SECONDS)
        one = await drivers.watch(seconds, launcher)
        lobby, ids = Lobby(url), list[str]()
        while card := await admitted(lobby, len(ids)):
            ids.append(card.id)
            await drivers.add(card.driver)
            await asyncio.sleep(SETTLE_SECONDS)
        tried = [await drivers.watch(seconds, launcher)]
        while not tried[-1]["held"] and ids:
            await lobby.end(ids.pop())
            await drivers.drop()
            await asyncio.sleep(SETTLE_SECONDS)
            tried.append(await drivers.watch(seconds, launcher))
    most = tried[-1]
    allowed = 1000 / LATENTS_PER_SECOND / max(one["step_ms"], one["decode_ms"])
    figures = {
        "worlds": most["worlds"] if most["held"] else 0,
        "admitted": tried[0]["worlds"],
        "allowed_by_cost": round(allowed, 2),
        "share": round(most["worlds"] / allowed, 3) if most["held"] else 0.0,
        "one": one,
        "tried": tried,
    }
    titles = ("worlds", "held", "FPS least", "late slots", "stalls", "key ms p50", "p95", "CPU %")
    keys = ("worlds", "held", "fps", "late", "stalls", "key_p50", "key_p95", "launcher_cpu")
    table(titles, [[each[key] for key in keys] for each in (one, *tried)])
    print(f"{figures['worlds']} worlds at {FPS} FPS; one step and decode allow {allowed:.1f}")
    return figures


@contextlib.asynccontextmanager
async def launched(
    model: Path, rest: int = 0, folder: Path = ROOT
) -> AsyncIterator[tuple[Process, str]]:
    """The program itself, as a person starts it: (process, address). rest: seconds without a
    viewer; folder: where it is started, and has its recordings."""
    command = [sys.executable, "-m", "pipeline", "run", "--port", "0", "--json-logs"]
    launcher = await asyncio.create_subprocess_exec(
        *(*command, "--worlds", "64", "--rest", str(rest)),
        cwd=folder,
        env=child_environment(MODEL_PATH=str(model.resolve()), PYTHONPATH=str(ROOT)),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    assert launcher.stderr is not None
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            url = await _address(launcher.stderr)
        reading = asyncio.create_task(launcher.stderr.read())  # a full pipe would stop it
        yield launcher, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            launcher.send_signal(signal.SIGINT)
        await launcher.wait()
        if reading is not None:
            await reading


async def _address(lines: asyncio.StreamReader) -> str:
    async for line in lines:
        said = json.loads(line)
        if said["event"] == "url":
            return str(said["url"])
    raise RuntimeError("the launcher ended before it had an address")


async def admitted(lobby: Lobby, number: int) -> Any:
    """Another world, or None if there is no room."""
    try:
        async with asyncio.timeout(ADMISSION_SECONDS):
            return await lobby.new_world(seed=1000 + number)
    except TimeoutError:
        return None


class Drivers:
    """A client for each world, which reads all frames and presses keys."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Drivers":
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._clients:
            await self.drop()

    async def add(self, url: str) -> None:
        """Drive the world at this address."""
        client = await connect(url)
        self._clients.append(client)
        self._tasks.append(asyncio.create_task(_drive(client, len(self._clients))))
        while not (await stats(client))["frames"]:
            pass

    async def drop(self) -> None:
        """Leave the newest world."""
        self._tasks.pop().cancel()
        await self._clients.pop().close()

    async def watch(self, seconds: float, launcher: Process) -> dict[str, Any]:
        """How all worlds did for so long."""
        process = psutil.Process(launcher.pid)
        before = [await stats(client) for client in self._clients]
        process.cpu_percent()
        await asyncio.sleep(seconds)
        busy = process.cpu_percent()
        after = [await stats(client) for client in self._clients]
        pairs = list(zip(before, after, strict=True))
        worlds = [_progress(old, new) for old, new in pairs]
        fps, late = min(each["fps"] for each in worlds), max(each["late"] for each in worlds)
        stalls = sum(each["stalls"] for each in worlds)
        print(f"{len(worlds)} worlds: {fps:.2f} FPS at least, {100 * late:.2f} % late", flush=True)
        return {
            "worlds": len(worlds),
            "held": fps >= HELD * FPS and late < LATE and not stalls,
            "fps": round(fps, 3),
            "late": round(late, 5),
            "stalls": stalls,
            "key_p50": max(each["control_to_frame_ms"]["p50"] or 0.0 for each in after),
            "key_p95": max(each["control_to_frame_ms"]["p95"] or 0.0 for each in after),
            "step_ms": max(each["step_ms"]["p50"] for each in after),
            "decode_ms": max(each["decode_ms"]["p50"] for each in after),
            "launcher_cpu": round(busy, 1),
        }


def _progress(old: dict[str, Any], new: dict[str, Any]) -> dict[str, float]:
    frames, late = new["frames"] - old["frames"], new["late_slots"] - old["late_slots"]
    return {
        "fps": frames / max(new["seconds"] - old["seconds"], 0.1),
        "late": late / max(frames + late, 1),
        "stalls": new["stalls"] - old["stalls"],
    }


async def stats(client: Client) -> dict[str, Any]:
    """The next figures that a world sends: once a second."""
    while client.has("stats"):
        await client.message("stats")
    return await client.message("stats")


async def _drive(client: Client, seed: int) -> None:
    """Read every frame, press another key now and then."""
    choice, frames = random.Random(seed), 0
    async for _ in client:
        frames += 1
        if frames % 12 == 0:
            client.hold(choice.choice(LABELS))

"""Headless live runs with keys pressed at random: steps started just in time against steps started
as early as they can."""

import asyncio
import itertools
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from actors.session import Session
from configs.schema import RunConfig
from pipeline.bench.options import Options
from pipeline.bench.processes import in_a_process
from pipeline.bench.table import table
from pipeline.launch import Launch, summary
from pipeline.signals import StopSignals
from pipeline.stage.figures import OVERHEAD
from pipeline.stage.show import Show

COUNTS: Final = (
    "fps_shown",
    "frames",
    "stalls",
    "late_slots",
    "longest_gap_ms",
    "first_frame_seconds",
)
PRESSED: Final = ("D", "DL", "DR")
# how long a key is held; not a multiple of a latent, so every phase is met
HELD_SECONDS: Final = 0.4, 1.6
PRESSES_PER_RESET: Final = 16
MEANINGS: Final = {
    "wait": "key to the start of the next step's sampling",
    "queue": "sampling to step",
    "dit": "model step",
    "hop": "latents to the decoder",
    "decode": "decoder",
    "back": "frames to the launcher",
    "pacing": "finished frame to its slot",
}


@dataclass
class Usage:
    """CPU seconds of this process and its children, by what they are."""

    when: float
    seconds: dict[str, float]

    @staticmethod
    def now() -> "Usage":
        seconds: dict[str, float] = {}
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                name = "launcher" if process == me else _role(process)
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds[name] = seconds.get(name, 0.0) + times.user + times.system
        return Usage(time.monotonic(), seconds)

    def percent_since(self, before: "Usage") -> dict[str, float]:
        """Percent of one core, per kind of process."""
        span = self.when - before.when
        shares = {
            name: 100 * (used - before.seconds.get(name, 0.0)) / span
            for name, used in self.seconds.items()
        }
        return {name: round(share, 1) for name, share in shares.items() if share >= 0.05}


def measure(options: Options) -> dict[str, Any]:
    """The split of the delay, one run each way, in processes of their own."""
    runs = {}
    for name, just_in_time in (("just in time", True), ("free running", False)):
        print(f"{name}: {options.seconds:g} s of stream ...", flush=True)
        runs[name] = in_a_process(run_live, options.model, options.seconds, just_in_time)
    report(*runs.values())
    if options.plot:
        # an optional package: only the plot needs it
        from pipeline.bench.plot import draw

        draw(runs, list(MEANINGS), options.plot)
    return {"model": str(options.model), "parts": MEANINGS, **runs}


def report(ours: dict[str, Any], free: dict[str, Any]) -> None:
    """Print both runs side by side."""
    rows = [
        (title, p50, p95, *other[1:])
        for (title, p50, p95), other in zip(columns(ours), columns(free))
    ]
    table(("ms", "just in time p50", "p95", "free running p50", "p95"), rows)
    for title, key in (
        (f"system overhead ({' + '.join(OVERHEAD)}), ms", "overhead_ms"),
        *((key, key) for key in COUNTS),
        ("reset to first frame, ms", "reset_to_frame_ms"),
    ):
        print(f"{title}: {ours[key]} (free running {free[key]})")
    cpu, memory = ours["cpu_percent"].items(), ours["peak_rss_mb"].items()
    print("CPU % of one core: " + ", ".join(f"{name} {used}" for name, used in cpu))
    print("peak memory MB: " + ", ".join(f"{name} {used:.0f}" for name, used in memory))


def run_live(model: Path, seconds: float, just_in_time: bool) -> dict[str, Any]:
    """One headless run of ``seconds``; the summary with the split of the delay and CPU use
    added."""
    begun = time.monotonic()
    launch = Launch.make(RunConfig(model_path=model, headless=True, duration=seconds))
    figures: dict[str, Any] = {}

    async def played() -> None:
        figures.update(await _run(launch, just_in_time, begun))

    async def run() -> int:
        task = asyncio.create_task(played())

        def stop(reason: str) -> None:
            task.cancel()

        return await StopSignals(stop).run(task)

    if code := asyncio.run(run()):
        sys.exit(code)
    return figures


async def _run(launch: Launch, just_in_time: bool, begun: float) -> dict[str, Any]:
    fleet = launch.fleet()
    show = launch.show(Session(fleet), just_in_time=just_in_time)
    driving = asyncio.create_task(_drive(show))
    try:
        await show.run()
        used = await driving
        return {
            **summary(show, fleet, begun),
            "split_ms": {
                name: times.percentiles(50, 95, whole=True)
                for name, times in show.figures.parts.items()
            },
            "overhead_ms": show.figures.overhead.percentiles(50, 95, whole=True),
            "longest_gap_ms": round(1000 * show.figures.longest_gap, 1),
            "reset_to_frame_ms": show.figures.reset.percentiles(50, 95, whole=True),
            "cpu_percent": used,
        }
    finally:
        driving.cancel()
        await fleet.close()


async def _drive(show: Show) -> dict[str, float]:
    """Press keys, and reset now and then, until the show ends; returns CPU use since the first
    frame."""
    subscription = show.subscribe()
    while not show.ready:
        await subscription.wait()
        subscription.events(), subscription.frame()
    # it reads all of /proc: not on the loop that shows frames
    before = after = await asyncio.to_thread(Usage.now)
    choice = random.Random(0)
    label = PRESSED[0]
    for press in itertools.count(1):
        if show.state not in ("playing", "rebuilding"):
            break
        label = choice.choice([key for key in PRESSED if key != label])
        show.hold(label)
        await asyncio.sleep(choice.uniform(*HELD_SECONDS))
        if show.state == "playing":
            after = await asyncio.to_thread(Usage.now)
            if press % PRESSES_PER_RESET == 1:
                show.reset()
    return after.percent_since(before)


def _role(process: psutil.Process) -> str:
    """What a child is: an actor's class from Ray's process title, else its program."""
    title = (process.cmdline() or [process.name()])[0]
    return (
        title.removeprefix("ray::").split(".")[0]
        if title.startswith("ray::")
        else Path(title.split()[0]).name
    )


def columns(figures: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Rows (part, p50, p95) in the order a key passes them, with totals."""
    split, control = figures["split_ms"], figures["control_to_frame_ms"]
    rows = [
        (f"{name}: {meaning}", split[name]["p50"], split[name]["p95"])
        for name, meaning in MEANINGS.items()
    ]
    return [*rows, ("key to frame shown", control["p50"], control["p95"])]

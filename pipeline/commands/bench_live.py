"""The live part of the benchmark: headless runs with keys pressed at random, just in time against
free running."""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from configs.schema import RunConfig
from pipeline.launch import Plan, summary
from pipeline.stage.show import Show

KEYS: Final = ("D", "DL", "DR")
HELD_SECONDS: Final = (
    0.4,
    1.6,
)  # how long a key is held; not a multiple of a latent, so every phase is met
PRESSES_PER_RESET: Final = 16
PARTS: Final = {
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


def run_live(model: Path, seconds: float, just_in_time: bool) -> dict[str, Any]:
    """One headless run of ``seconds``; the summary with the split of the delay and CPU use
    added."""
    begun = time.monotonic()
    plan = Plan.make(RunConfig(model_path=model, headless=True, duration=seconds))
    return asyncio.run(_run(plan, just_in_time, begun))


async def _run(plan: Plan, just_in_time: bool, begun: float) -> dict[str, Any]:
    session = plan.session()
    show = plan.show(session, just_in_time=just_in_time)
    driving = asyncio.create_task(_drive(show))
    try:
        await show.run()
        used = await driving
        return {
            **summary(show, session, begun),
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


async def _drive(show: Show) -> dict[str, float]:
    """Press keys, and reset now and then, until the show ends; returns CPU use since the first
    frame."""
    subscription = show.subscribe()
    while not show.ready:
        await subscription.wait()
        subscription.events(), subscription.frame()
    before = after = await asyncio.to_thread(
        Usage.now
    )  # it reads all of /proc: not on the loop that shows frames
    choice = random.Random(0)
    label = KEYS[0]
    for press in itertools.count(1):
        if show.state not in ("playing", "rebuilding"):
            break
        label = choice.choice([key for key in KEYS if key != label])
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
        for name, meaning in PARTS.items()
    ]
    return [*rows, ("key to frame shown", control["p50"], control["p95"])]


def draw(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Stacked bars of the medians, one bar per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 2.6))
    for place, figures in enumerate(runs.values()):
        left = 0.0
        for part, color in zip(PARTS, pyplot.get_cmap("tab10").colors):  # type: ignore[attr-defined]
            width = figures["split_ms"][part]["p50"] or 0.0
            axes.barh(place, width, left=left, color=color, label=part if not place else None)
            left += width
        p95 = figures["control_to_frame_ms"]["p95"]
        axes.plot(
            [p95], [place], "k|", markersize=14, label="p95 of the whole" if not place else None
        )
        axes.text(left + 4, place, f"{left:.0f} ms", va="center")
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds from a key to its first frame (medians of the parts)")
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.34), frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)

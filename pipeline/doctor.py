"""A look at the machine: every finding is one line that says what is well, what to look at, or what
to do. Nothing here needs the network, and no line holds a secret: it is what a bug report needs."""

import asyncio
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from actors.fleet import Fleet
from actors.head import OBJECT_STORE_BYTES, check_machine
from actors.journal.place import IDLE_BYTES, StateFolder
from actors.session import Session
from configs.errors import UserError
from configs.geometry import FPS
from configs.load import state_folder
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from models.device import cores, gpu_names, processor_flags
from models.engines.openvino import present as openvino_is_there
from models.weight_folder import model_folder
from pipeline.launch import Launch
from pipeline.signals import StopSignals, finish
from pipeline.stage.show import Show
from pipeline.stage.tempo import HELD
from pipeline.video import FrameEncoder, ffmpeg_encoders

OK: Final = "ok"
LOOK: Final = "look here"
MEND: Final = "to mend"
PACKAGES: Final = ("torch", "ray", "transformers", "numpy", "starlette", "uvicorn", "websockets")
CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
MEMORY: Final = 2 << 30  # bytes that the embedded world takes, with Ray
DESCRIPTORS: Final = 1024
DRIVE_SECONDS: Final = 5.0
PORT: Final = RunConfig().port


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is (OK, LOOK or MEND), what was seen, and what to do."""

    what: str
    how: str
    seen: str
    do: str = ""

    def line(self) -> str:
        return f"{self.how:<10}{self.what:<16}{self.seen}{'; ' + self.do if self.do else ''}"


def report(drive: bool, paths: bool) -> int:
    """Print all findings as they come; the exit code, 1 where something is to be mended."""
    worst = 0
    for finding in findings(drive):
        line = finding.line()
        print(line if paths else line.replace(str(Path.home()), "~"), flush=True)
        worst |= finding.how == MEND
    return worst


def findings(drive: bool) -> Iterator[Finding]:
    """Everything, cheap things first. ``drive``: a few seconds of a live world at the end."""
    for look in LOOKS:
        try:
            yield look()
        except (UserError, OSError, ValueError) as error:  # PyAV's for a codec that it lacks
            yield Finding(look.__name__.replace("_", " "), MEND, " ".join(str(error).split()))
    if drive:
        yield from measured()


def python() -> Finding:
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if platform.system() != "Linux":
        return Finding("python", LOOK, system, "only Linux was tried")
    return Finding("python", OK, system)


def packages() -> Finding:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return Finding("packages", OK, versions)


def processor() -> Finding:
    flags = " ".join(flag for flag in CPU_FLAGS if flag in processor_flags()) or "none of note"
    seen = f"{cores()} cores, {flags}, load {os.getloadavg()[0]:.1f}"
    if cores() < 2:
        return Finding("processor", LOOK, seen, "the embedded world wants two cores")
    if os.getloadavg()[0] > cores():
        return Finding("processor", LOOK, seen, "other programs are busy: close some")
    return Finding("processor", OK, seen)


def gpus() -> Finding:
    return Finding("gpus", OK, ", ".join(gpu_names()) or "none: workers run on the processor")


def memory() -> Finding:
    free = psutil.virtual_memory().available
    seen = f"{free / 2**30:.1f} GiB free of {psutil.virtual_memory().total / 2**30:.1f}"
    if free < MEMORY:
        return Finding(
            "memory", MEND, seen, f"a run takes about {MEMORY >> 30} GiB: close programs"
        )
    return Finding("memory", OK, seen)


def shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free
    seen = f"{free / 2**20:.0f} MiB free in /dev/shm"
    if free < OBJECT_STORE_BYTES:
        return Finding("shared memory", LOOK, seen, "give it 1 GiB (docker run --shm-size=1g)")
    return Finding("shared memory", OK, seen)


def descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = f"{soft} open files allowed, {hard} at most"
    if soft < DESCRIPTORS:
        return Finding("descriptors", LOOK, seen, f"many viewers need more: ulimit -n {hard}")
    return Finding("descriptors", OK, seen)


def network() -> Finding:
    check_machine()
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    if taken:
        return Finding("network", LOOK, f"port {PORT} is taken", "choose another: --port 0")
    return Finding("network", OK, f"loopback works, port {PORT} is free")


def ffmpeg() -> Finding:
    encoders = ffmpeg_encoders()
    if "libx264" not in encoders:
        return Finding("ffmpeg", MEND, "no libx264", "pip install --force-reinstall imageio-ffmpeg")
    FrameEncoder(320, 192, FPS, 22).encode(np.zeros((192, 320, 3), np.uint8), key=True)
    return Finding("ffmpeg", OK, "libx264 writes mp4, and H.264 for the page")


def state() -> Finding:
    try:
        folder = StateFolder(state_folder())
    except UserError as error:  # a run goes on without it, and says so
        return Finding("state folder", LOOK, str(error), "until then no drive is kept")
    free = shutil.disk_usage(folder.path).free
    seen = f"{len(folder.names())} drives in {folder.path}, {free / 2**30:.1f} GiB free"
    if free < IDLE_BYTES:  # that drives may take
        do = "drives are kept there: make room, or --state DIR, or --no-state"
        return Finding("state folder", LOOK, seen, do)
    return Finding("state folder", OK, seen)


def browser() -> Finding:
    found = [name for name in ("chromium", "google-chrome", "firefox") if shutil.which(name)]
    if not found:
        seen = "none on this machine"
        return Finding("browser", LOOK, seen, "open the printed address elsewhere: ssh -L")
    return Finding("browser", OK, ", ".join(found))


def weights() -> Finding:
    folder, _ = model_folder(None)
    checkpoint = Checkpoint.open(RunConfig().choice(folder))
    size = f"{checkpoint.width}x{checkpoint.height}"
    return Finding("weights", OK, f"{checkpoint.name} at {folder}, whole, {size}")


LOOKS: Final[tuple[Callable[[], Finding], ...]] = (
    *(python, packages, processor, gpus, memory, shared_memory),
    *(descriptors, network, ffmpeg, state, browser, weights),
)


def measured() -> Iterator[Finding]:
    """The engine, Ray and the speed of this machine: one short drive without a page."""
    launch = Launch.make(
        RunConfig(headless=True, duration=DRIVE_SECONDS, no_state=True),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    yield engine(launch.engine.told)
    fleet = launch.fleet()
    show = launch.show(Session(fleet))
    stages: dict[str, float] = {}
    try:
        finish(asyncio.run(StopSignals(show.stop).run(played(show, fleet, stages))))
    except (RuntimeError, UserError) as error:
        yield Finding("ray", MEND, " ".join(str(error).split()))
        return
    yield Finding("ray", OK, f"came up in {stages.get('places', 0.0):.1f} s")
    yield speed(show)


def engine(told: str) -> Finding:
    """What computes the small world, and what may compute it faster."""
    if openvino_is_there() or gpu_names():
        return Finding("engine", OK, told)
    return Finding("engine", LOOK, told, "OpenVINO is often twice as fast: pip install openvino")


async def played(show: Show, fleet: Fleet, stages: dict[str, float]) -> None:
    """The drive, until it ends or is stopped. ``stages`` gets the seconds at which each began."""
    listening = show.subscribe(viewer=False)
    task = asyncio.create_task(show.run())
    try:
        while await listening.wait():
            listening.frame()
            for event in listening.events():
                if event.kind == "status":
                    stages.setdefault(event.data["stage"], event.data["seconds"])
        await task
    finally:
        await fleet.close()


def speed(show: Show) -> Finding:
    """Whether the drive held its frame rate."""
    figures, fps = show.figures, show.info.fps
    shown = figures.shown.average() or 0.0
    step, decode = (figures.parts[part].percentiles(50)["p50"] or 0 for part in ("dit", "decode"))
    seen = f"{shown:.1f} of {fps} frames a second, step {step:.0f} ms, decode {decode:.0f} ms"
    if shown < HELD * fps:
        return Finding(
            "speed",
            LOOK,
            seen,
            "close other programs, or drive the smaller world: MODEL_PATH=models/tiny/stage4",
        )
    return Finding("speed", OK, seen)

"""A headless live run in a process of its own, for tests: ``python -m tests.drive SPEC.json
OUT.npz``.

SPEC: {"model": DIR, "dit": 1, "vae": 1, "address": HOST:PORT | null, "engine": NAME | null,
"seed": 1, "prompt": "...", "takes": [[labels, prompts], ...], "faults": {"FRAME": FAULT | [FAULT,
...]}, "holds": {"FRAME": LABEL}, "acts": {"FRAME": ["reset", SEED] | ["prompt", TEXT] | ["rewind",
LATENT] | ["pause", SECONDS] | ["replay", LABELS, PROMPTS] | ["overtake", LABELS, PROMPTS, SECONDS,
SEED] | ["flood", COUNT] | ["rest", SECONDS]}, "frames": N, "until": TEXT, "log": FILE}. FAULT is ["kill" | "stop", "dit
0"], with the seconds to wait as a third part where it comes later; "overtake" is a replay and, so
many seconds later, a reset; ["suspend", SECONDS] stops every process of the run for a while;
["slay", PID] kills one outside it, or (0) this launcher itself. "state": where it is kept; "go_on":
NAME of a drive there. "loading": [FAULT, ...] happen one each time that the models begin to load;
Ray's own processes are called by their names ("raylet", "guardian"). It ends after N frames, or
with the first of the prompt TEXT. OUT holds the frames in order (``frames``), and everything else
as JSON (``story``).
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil

from actors.layout import Layout
from actors.session import Session
from actors.source import Take
from configs.schema import RunConfig
from pipeline.hosted_world import Rests
from pipeline.launch import Launch, summary
from pipeline.stage.audience import ShownFrame
from tests.watched import WatchedShow

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


SUSPEND = """
import os, signal, sys, time
for number in (signal.SIGSTOP, signal.SIGCONT):
    for pid in map(int, sys.argv[2:]):
        os.kill(pid, number)
    time.sleep(float(sys.argv[1]))
"""


def family() -> list[psutil.Process]:
    """Everything below this process."""
    return psutil.Process().children(recursive=True)


async def drive(spec: dict) -> tuple[np.ndarray, dict]:
    """Run it; frames uint8 [n, H, W, 3], and what happened."""
    config = RunConfig(
        model_path=Path(spec["model"]),
        num_gpus_dit=spec.get("dit", 1),
        num_gpus_vae=spec.get("vae", 1),
        visible_devices=(),
        prompt=spec.get("prompt"),
        seed=spec.get("seed", 1),
        headless=True,
        ray_address=spec.get("address"),
        engine=spec.get("engine"),
        state=Path(spec["state"]) if "state" in spec else None,
        no_state="state" not in spec,
        go_on=spec.get("go_on"),
    )
    plan = Launch.make(config)
    assert plan.layout == Layout(spec.get("dit", 1), spec.get("vae", 1))
    fleet = plan.fleet()
    session = plan.kept(Session(fleet))
    takes = [] if plan.continuation is None else list(plan.takes)
    takes += [
        Take(config.seed, tuple(labels), tuple(prompts))
        for labels, prompts in spec.get("takes", [])
    ]
    show = WatchedShow(session, seed=plan.seed, prompt=plan.prompt, takes=takes)
    faults = {int(frame): fault for frame, fault in spec.get("faults", {}).items()}
    holds = {int(frame): label for frame, label in spec.get("holds", {}).items()}
    acts = {int(frame): act for frame, act in spec.get("acts", {}).items()}
    loading = list(spec.get("loading", []))
    events: list[dict] = []

    later = asyncio.get_running_loop().call_later

    def pause(seconds: float) -> None:
        show.pause()
        later(seconds, show.resume)

    def rest(seconds: float) -> None:
        show.pause()
        assert isinstance(session, Rests)
        later(seconds / 2, session.rest)
        later(seconds, show.resume)

    def replay(labels: list[str], prompts: list[str]) -> None:
        show.replay([Take(config.seed, tuple(labels), tuple(prompts))])

    def overtake(labels: list[str], prompts: list[str], seconds: float, seed: int) -> None:
        replay(labels, prompts)
        later(seconds, show.reset, seed)

    def flood(count: int) -> None:
        for seed in range(count):
            show.reset(seed)

    def hurt(kind: str, name: str) -> None:
        pids = fleet.groups.pids | {each.name(): each.pid for each in family()}
        (guardian,) = [each.pid for each in family() if "actors.guardian" in each.cmdline()] or [0]
        pids["guardian"] = guardian
        if not pids.get(name):  # not yet
            later(0.05, hurt, kind, name)
            return
        with contextlib.suppress(ProcessLookupError):  # it is dead already
            os.kill(pids[name], SIGNALS[kind])

    def slay(pid: int) -> None:
        os.kill(pid or os.getpid(), signal.SIGKILL)

    def suspend(seconds: float) -> None:
        everybody = [str(each.pid) for each in (*family(), psutil.Process())]
        command = [sys.executable, "-c", SUSPEND, str(seconds), *everybody]
        subprocess.Popen(command, start_new_session=True)

    doing: dict[str, Callable[..., object]] = {
        "reset": show.reset,
        "prompt": show.set_prompt,
        "rewind": show.rewind,
        "pause": pause,
        "rest": rest,
        "replay": replay,
        "overtake": overtake,
        "flood": flood,
        "suspend": suspend,
        "slay": slay,
    }

    def shown(frame: ShownFrame) -> None:
        count = len(show.seen)
        if fault := faults.pop(count, None):
            for kind, name, *seconds in [fault] if isinstance(fault[0], str) else fault:
                later(seconds[0], hurt, kind, name) if seconds else hurt(kind, name)
        if label := holds.pop(count, None):
            show.hold(label)
        if act := acts.pop(count, None):
            doing[act[0]](*act[1:])
        if spec.get("truncate") == count:
            path = Path(spec["model"]) / "vae" / "diffusion_pytorch_model.safetensors"
            path.write_bytes(path.read_bytes()[:1000])
        if count >= spec["frames"] or frame.prompt == spec.get("until"):
            show.stop()

    async def watch() -> None:
        sub = show.subscribe()
        while await sub.wait():
            heard = [{"kind": e.kind, **e.data} for e in sub.events() if e.kind != "stats"]
            begins = any("loading the models" in event.get("message", "") for event in heard)
            if loading and begins:
                kind, name, *seconds = loading.pop(0)
                later(seconds[0] if seconds else 0, hurt, kind, name)
            events.extend(heard)
            sub.frame()

    show.shown = shown
    watching = asyncio.create_task(watch())
    begun, error = time.monotonic(), ""
    try:
        await show.run(lambda show: show.tape.log(Path(spec["log"])) if "log" in spec else None)
    except RuntimeError as raised:
        error = str(raised)
    await watching
    story_nodes = fleet.groups.nodes
    await fleet.close()
    seen = show.seen[: spec["frames"]]
    labels = [(frame.epoch, frame.index, frame.label, frame.prompt) for frame in seen]
    story = {"events": events, "labels": labels, "error": error, "gap": show.figures.longest_gap}
    story["nodes"] = story_nodes
    story["take"] = asdict(show.take())
    story["summary"] = dict(summary(show, fleet, begun))
    return np.stack([frame.image for frame in seen] or [np.zeros((0, 0, 3), np.uint8)]), story


if __name__ == "__main__":
    frames, story = asyncio.run(drive(json.loads(Path(sys.argv[1]).read_text())))
    np.savez(sys.argv[2], frames=frames, story=json.dumps(story))

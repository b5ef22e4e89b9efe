"""What a run says in the terminal: one line each, for people or as JSON, and figures at regular
times."""

import asyncio
import json
import re

import pipeline.broadcast as broadcast
from configs.schema import RunConfig
from pipeline.console import Console
from pipeline.run_files import RunFiles
from pipeline.stage.audience import Event
from pipeline.worlds import Worlds
from tests.test_pipeline_stage_show import Squares, play, watch


def test_text_from_outside_can_forge_no_line(capsys):
    console = Console()
    console.hear(
        Event("notice", {"level": "warning", "message": "disk\n[  0.0 s] full \x1b[2J\u2028now"})
    )
    console.hear(Event("prompt", {"state": "failed", "message": "no\rsuch"}))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 2 and "\x1b" not in err
    assert re.fullmatch(r"\[ +\d+\.\d s\] disk \[ 0\.0 s\] full \[2J now", lines[0])
    assert lines[1].endswith("prompt refused: no such")


def test_json_lines_carry_what_happened(capsys):
    console = Console(as_json=True)
    console.hear(
        Event(
            "status", {"stage": "models", "percent": 52.0, "message": "dit ready", "seconds": 3.0}
        )
    )
    console.hear(Event("reset", {"epoch": 2, "seed": 7, "prompt": "x"}))
    console.result("drive.mp4")
    out, err = capsys.readouterr()
    status, reset = map(json.loads, err.splitlines())
    assert (status["event"], status["stage"], status["message"]) == (
        "stage",
        "models",
        "models:  52 % dit ready",
    )
    assert (reset["event"], reset["seed"], reset["epoch"]) == ("reset", 7, 2) and reset[
        "time"
    ] > 1e9
    assert out == "drive.mp4\n"


def test_figures_are_told_again_and_again(capsys, monkeypatch):
    assert broadcast.STATS_SECONDS == 10
    monkeypatch.setattr(broadcast, "STATS_SECONDS", 0.2)

    async def drive(show):
        plain, as_json = (
            broadcast.Broadcast(
                Worlds(show), RunConfig(headless=True), RunFiles(), Console(as_json)
            )
            for as_json in (False, True)
        )
        counting = [
            asyncio.create_task(work) for work in (plain.count(), as_json.count(), plain.tell())
        ]
        await watch(show, lambda frames, events: len(frames) >= 16)
        for task in counting:
            task.cancel()

    play(Squares(), drive)
    lines = capsys.readouterr().err.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    plain = [line for line in lines if " FPS shown, " in line and not line.startswith("{")]
    assert len(told) >= 2 and len(plain) >= 2
    assert told[-1]["event"] == "stats" and told[-1]["frames"] > told[0]["frames"]
    assert re.search(
        r"playing: [\d.]+ FPS shown, [\d.]+ generated, .* 0 restarts, 1 watching$", plain[-1]
    )

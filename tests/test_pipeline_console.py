"""What a run says in the terminal: one line each, for people or as JSON, and figures at regular
times."""

import asyncio
import json
import re

import pipeline.broadcast as broadcast
from configs.schema import RunConfig
from pipeline.beginning import Beginning
from pipeline.console import Console
from pipeline.run_files import RunFiles
from pipeline.stage.audience import Event
from pipeline.stage.show import Show
from pipeline.worlds import Worlds
from tests.live import Making
from tests.squares import Squares, play, watch
from tests.test_pipeline_worlds import Fragile
from tests.until import until


def test_text_from_outside_can_forge_no_line(capsys):
    console = Console()
    console.hear(
        Event("notice", {"level": "warning", "message": "disk\n[  0.0 s] full \x1b[2J\u2028now"})
    )
    console.hear(Event("prompt", {"state": "failed", "message": "no\rsuch"}))
    console.hear(Event("record", {"state": "failed", "name": "x.mp4", "message": "disk full"}))
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
        r"playing: [\d.]+ FPS shown, [\d.]+ generated, median/95 % in ms: .* step [\d-]+.* 0 restarts, "
        "1 watching$",
        plain[-1],
    )


def test_every_world_has_its_lines_and_an_end_that_is_said(capsys):
    async def whole():
        sources = [Fragile(), Fragile()]

        async def another():
            return sources[1]

        worlds = Worlds(Show(sources[0], seed=1, prompt="a road"), Making(another))
        on_air = broadcast.Broadcast(worlds, RunConfig(headless=True), RunFiles(), Console())
        running = asyncio.create_task(on_air.run())
        await until(lambda: worlds.own.show.ready)
        other = await worlds.new(Beginning("a sea", 9, "Ann"))
        await until(lambda: other.show.ready)
        sources[0].broken = True
        await worlds.own.over.wait()
        await asyncio.sleep(0.1)
        sources[1].broken = True
        return await running

    assert asyncio.run(whole()) == 1
    err = capsys.readouterr().err
    assert "Ann: begins with seed 9: a sea" in err and "Ann: playing: first frame shown" in err
    assert "the first world ended: nothing is left; the launcher goes on" in err
    assert "the run ended: nothing is left" in err

"""Figures for Prometheus, and the dashboard that reads them."""

import asyncio
import json
import re

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from actors.costs import Load
from configs.errors import UserError
from pipeline.host import Host
from pipeline.web.metrics import Counters, all_worlds, registry
from pipeline.worlds import Worlds
from tests.places import ROOT
from tests.squares import Squares, play, watch

DASHBOARD = ROOT / "docs" / "grafana.json"


def test_a_shows_figures_are_prometheus_text():
    async def drive(show):
        await watch(show, lambda frames, events: len(frames) >= 6)
        show.hold("DL")
        await watch(show, lambda frames, events: "receipt" in [event.kind for event in events])
        await asyncio.sleep(0)
        return generate_latest(registry(show)).decode()

    show, text = play(Squares(), drive)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert 6 <= samples[("matrix_frames_shown_total",)] <= show.figures.frames
    assert samples[("matrix_state", ("state", "playing"))] == 1
    assert samples[("matrix_stage_seconds_count", ("stage", "dit"))] >= 2
    assert samples[("matrix_control_to_frame_seconds_bucket", ("le", "+Inf"))] == 1
    assert samples[("matrix_dropped_frames_total", ("reason", "slow_viewer"))] == 0


def test_the_dashboard_asks_only_for_figures_that_exist():
    async def drive(show):
        figures = registry(show)
        Counters(figures)
        return generate_latest(all_worlds(Worlds(show), lambda: {"first": figures})).decode()

    _, text = play(Squares(), drive)
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    asked = set(
        re.findall(r"matrix_[a-z_]+", " ".join(t["expr"] for p in panels() for t in p["targets"]))
    )
    known = names | {f"{name}_bucket" for name in names}
    assert asked and not asked - known


def test_what_each_replica_carries_is_told():
    class Two(Host):
        loads = (Load(2, 1, 40, 1.0, 0.8), Load(1, 0, 30, 0.5, 0.25))

        async def source(self, whose, drive=""):
            raise UserError("nobody asks")

    async def drive(show):
        return generate_latest(all_worlds(Worlds(show, Two()), dict)).decode()

    _, text = play(Squares(), drive)
    for line in (
        'matrix_replica_worlds{replica="0",state="awake"} 2.0',
        'matrix_replica_worlds{replica="0",state="resting"} 1.0',
        'matrix_replica_steps_total{replica="1"} 30.0',
        'matrix_replica_busy_seconds_total{group="step",replica="1"} 0.5',
        'matrix_replica_busy_seconds_total{group="decode",replica="0"} 0.8',
    ):
        assert line in text.splitlines()


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]

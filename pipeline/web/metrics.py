"""What /metrics says: the figures of every show, read whenever they are asked for, what its site
counts about its clients, and what happened to the worlds of this launcher."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pipeline.stage.figures import BOUNDS, Times
from pipeline.stage.show import Show
from pipeline.worlds import Worlds

PHOTON_SECONDS: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.75, 1.0, 2.0, 5.0)
STATES: Final = ("starting", "playing", "paused", "rebuilding", "ended")


def registry(show: Show) -> CollectorRegistry:
    """A registry that reads ``show`` whenever it is asked; nothing is counted twice."""
    made = CollectorRegistry()
    made.register(ShowCollector(show))
    return made


def all_worlds(
    worlds: Worlds, registries: Callable[[], Mapping[str, CollectorRegistry]]
) -> CollectorRegistry:
    """What a launcher answers: its worlds, and each one's own figures with its id as a label.
    ``registries`` are those of now; the figures of a world go with it."""
    made = CollectorRegistry()
    made.register(WorldsCollector(worlds, registries))
    return made


class WorldsCollector(Collector):
    """Everything about every world of a launcher."""

    def __init__(
        self, worlds: Worlds, registries: Callable[[], Mapping[str, CollectorRegistry]]
    ) -> None:
        self._worlds = worlds
        self._registries = registries

    def describe(self) -> Iterable[Metric]:
        """No names are promised before they are read."""
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._tally()
        yield from self._replicas()
        families: dict[str, Metric] = {}
        for world, registry in self._registries().items():
            for family in registry.collect():
                whole = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                whole.samples += [
                    sample._replace(labels={**sample.labels, "world": world})
                    for sample in family.samples
                ]
        yield from families.values()

    def _tally(self) -> Iterable[Metric]:
        worlds, tally = self._worlds, self._worlds.tally
        resting = sum(world.resting for world in worlds)
        here = GaugeMetricFamily("matrix_worlds", "Worlds that live", labels=["state"])
        here.add_metric(["awake"], len(worlds) - resting)
        here.add_metric(["resting"], resting)
        yield here
        yield GaugeMetricFamily("matrix_worlds_room", "Worlds that could begin now", worlds.room)
        waiting = worlds.waiting.length(time.monotonic())
        yield GaugeMetricFamily("matrix_worlds_waiting", "Requests that wait for room", waiting)
        for name, text, value in (
            ("worlds_opened", "Worlds that began", tally.opened),
            ("worlds_ended", "Worlds that ended", tally.ended),
            ("worlds_broken", "Worlds that ended with a fault", tally.broken),
            ("worlds_refused", "Requests for a world when there was no room", tally.refused),
            ("worlds_rested", "Worlds put to rest because nobody watched", tally.rested),
            ("worlds_woken", "Resting worlds that went on because somebody came", tally.woken),
        ):
            yield CounterMetricFamily(f"matrix_{name}", text, value=value)

    def _replicas(self) -> Iterable[Metric]:
        """Of each replica by its number; a group's utilisation is the rate of its seconds."""
        host = self._worlds.host
        here = GaugeMetricFamily(
            "matrix_replica_worlds", "Worlds on a replica", labels=["replica", "state"]
        )
        steps = CounterMetricFamily(
            "matrix_replica_steps", "Steps made by a replica", labels=["replica"]
        )
        busy = CounterMetricFamily(
            "matrix_replica_busy_seconds",
            "Seconds that a group of a replica was busy; their rate is its utilisation",
            labels=["replica", "group"],
        )
        for number, load in enumerate(host.loads if host else ()):
            replica = str(number)
            here.add_metric([replica, "awake"], load.awake)
            here.add_metric([replica, "resting"], load.resting)
            steps.add_metric([replica], load.steps)
            busy.add_metric([replica, "step"], load.step_seconds)
            busy.add_metric([replica, "decode"], load.decode_seconds)
        yield from (here, steps, busy)


class ShowCollector(Collector):
    """Turns a show's figures into Prometheus families."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def describe(self) -> Iterable[Metric]:
        """No names are promised before the show is read; without this, registering would read
        it."""
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._counts()
        yield from self._moment()
        yield self._state()
        yield self._engine()
        yield from self._delays()

    def _counts(self) -> Iterable[Metric]:
        figures = self._show.figures
        for name, text, value in (
            ("frames_shown", "Frames shown", figures.frames),
            ("frames_generated", "Frames that arrived from the workers", figures.generated),
            ("late_slots", "Frame slots that passed without their frame", figures.late_slots),
            ("stalls", "Gaps of more than two frame slots", figures.stalls),
            ("restarts", "Worker groups replaced after a fault", figures.restarts),
            ("rewinds", "Times that the world went back", self._show.past.rewinds),
        ):
            yield CounterMetricFamily(f"matrix_{name}", text, value=value)
        drops = CounterMetricFamily(
            "matrix_dropped_frames", "Frames not delivered, by reason", labels=["reason"]
        )
        drops.add_metric(["slow_viewer"], self._show.drops)
        drops.add_metric(["overtaken_by_reset"], self._show.overtaken)
        yield drops

    def _moment(self) -> Iterable[Metric]:
        stats = self._show.stats()
        lead, margin = (stats["lead_ms"] or 0) / 1000, stats["margin_ms"] / 1000
        for name, text, value in (
            ("queue_depth", "Frames that lie ready and are not yet shown", stats["queue_depth"]),
            ("fps_shown", "Frames shown per second, last ten seconds", stats["fps_shown"]),
            (
                "fps_generated",
                "Frames generated per second, last ten seconds",
                stats["fps_generated"],
            ),
            ("lead_seconds", "How long before its slot a step starts", lead),
            ("margin_seconds", "Safety margin within the lead", margin),
        ):
            yield GaugeMetricFamily(f"matrix_{name}", text, value=value)

    def _state(self) -> Metric:
        state = GaugeMetricFamily(
            "matrix_state", "1 for the state the show is in", labels=["state"]
        )
        for name in STATES:
            state.add_metric([name], float(self._show.state == name))
        return state

    def _engine(self) -> Metric:
        engine = GaugeMetricFamily(
            "matrix_engine", "1 for the engine that makes the frames", labels=["engine"]
        )
        if self._show.info.engine:
            engine.add_metric([self._show.info.engine], 1.0)
        return engine

    def _delays(self) -> Iterable[Metric]:
        figures = self._show.figures
        stages = HistogramMetricFamily(
            "matrix_stage_seconds",
            "Where a latent and its control spend their time, by stage",
            labels=["stage"],
        )
        for name, times in figures.parts.items():
            stages.add_metric([name], *_histogram(times))
        yield stages
        control = HistogramMetricFamily(
            "matrix_control_to_frame_seconds",
            "From a control's arrival to the first frame that it conditioned",
        )
        control.add_metric([], *_histogram(figures.control))
        yield control


class Counters:
    """Clients and what they report; everything about frames is counted by the show."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = Gauge(
            "matrix_clients", "Connected clients by role", ["role"], registry=registry
        )
        self.photon = Histogram(
            "matrix_control_to_photon_seconds",
            "From a key event in the page to the paint of the first frame conditioned on it, as the page measured it",
            buckets=PHOTON_SECONDS,
            registry=registry,
        )
        self.sent = Counter(
            "matrix_sent_bytes", "Bytes of frames sent to clients", registry=registry
        )
        self.dropped = Counter(
            "matrix_viewer_dropped_frames",
            "Frames a viewer did not get because a newer one was there before its link was free",
            registry=registry,
        )
        self.refused = Counter(
            "matrix_refused", "Messages and connections refused", ["what"], registry=registry
        )


def _histogram(times: Times) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets and the sum, as Prometheus wants them."""
    total, buckets = 0, []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], times.buckets, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets, times.total

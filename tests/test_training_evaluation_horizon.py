"""A stream's drift is told from the simulator's own spread, and the test of it lets the simulator
itself pass."""

import numpy as np

from models.checkpoint import Checkpoint
from tests.places import SHIPPED
from training.evaluation import horizon
from training.evaluation.look import Look
from training.evaluation.probe import fitted_probe
from training.scene import Scene


def test_minutes_are_the_ends_of_a_drive() -> None:
    drives = horizon.courses(5.0, 3)
    assert [len(drive.labels) for drive in drives] == [1200] * 3
    assert {drive.minute for drive in drives} == {240}
    assert len({drive.labels for drive in drives}) == 3, "every drive has labels of its own"
    assert horizon.courses(0.1, 1)[0].minute == 12, "of a short drive: half"
    assert set(horizon.courses(1.0, 1, "D")[0].labels) == {"D"}


def test_a_short_stream_is_measured_beside_the_simulator() -> None:
    probe, _ = fitted_probe(clips=20)
    drives = horizon.courses(0.1, 2)
    checkpoint = Checkpoint.open(SHIPPED / "stage4")
    drifts = horizon.horizon(checkpoint, None, probe, drives, processes=2)
    alone = horizon.horizon(checkpoint, None, probe, drives[1:], processes=1)
    assert drifts[1] == alone[0], "streams side by side are those driven alone"
    for drift in drifts:
        assert (
            set(drift.stream)
            == set(drift.simulator)
            == {"colour", "contrast", "sharpness", "features"}
        )
        assert drift.inside == all(
            drift.stream[name] <= drift.simulator[name] for name in drift.stream
        )
        assert drift.segments_inside == drift.inside, "a short drive has two minutes only"
    told = horizon.summary("seeds", drifts)
    assert told["horizon_seeds_inside"] == np.mean([drift.inside for drift in drifts])
    assert len(told["streams_seeds"]) == 2


def test_a_fading_stream_is_outside_where_the_simulator_is_inside() -> None:
    probe, _ = fitted_probe(clips=20)
    course = horizon.Course(Scene("meadow", "day", "red"), 3_000_123, ("D",) * 12 + ("DL",) * 12)
    pairs = horizon._simulator_pairs(course, probe)
    assert horizon._simulator_inside(pairs) >= 0.5
    labels, place = course.labels, course.seed
    first = horizon.simulated(course.scene, place, labels[: course.minute])
    last = horizon.simulated(course.scene, place, labels[-course.minute :])
    faded = (last * 0.7 + 60).astype(np.uint8)
    widest = horizon._widest([pair for row in pairs for pair in row])
    drift = Look.of(first, probe).distance(Look.of(faded, probe))
    assert not horizon._inside(drift, widest)

"""How many worlds fit, by what was measured."""

import os
from dataclasses import replace

import pytest

from actors.costs import LEAST, Costs, Overhead, capacity
from actors.source import WorldInfo

INFO = WorldInfo("a world", "0" * 64, 96, 144)


def measured(step: float, decode: float, processors: float = 0.0) -> Costs:
    costs = Costs()
    for _ in range(LEAST):
        costs.took(step, decode, processors)
    return costs


def test_the_longer_of_the_two_stages_decides() -> None:
    assert capacity([measured(0.01, 0.02)], 0.0, INFO) == 10
    assert capacity([measured(0.04, 0.02)], 0.0, INFO) == 5


def test_replicas_add_up() -> None:
    assert capacity([measured(0.01, 0.02), measured(0.04, 0.02)], 0.0, INFO) == 15


def test_a_step_of_several_latents_has_their_time() -> None:
    assert capacity([measured(0.01, 0.02)], 0.0, replace(INFO, latents_per_step=2)) == 20


def test_workers_and_launcher_share_the_processors_of_a_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    costs = [measured(0.01, 0.01, processors=0.04)]
    assert capacity(costs, 0.0, INFO) == 8 and capacity(costs, 0.01, INFO) == 6
    assert capacity(costs * 2, 0.01, INFO) == 6, "a second replica has no processors of its own"


def test_one_world_always_fits() -> None:
    assert capacity([measured(3.0, 0.1, processors=9.0)], 0.0, INFO) == 1


def test_one_a_replica_before_enough_is_known() -> None:
    costs = Costs()
    costs.took(0.01, 0.01, 0.01)
    assert not costs.known and capacity([costs, costs], 0.0, INFO) == 2


def test_the_launchers_own_time_is_shared_among_the_steps() -> None:
    overhead = Overhead()
    assert overhead.seconds == 0.0
    overhead.took()
    sum(range(400_000))
    overhead.took()
    overhead.took()
    assert 0.0 < overhead.seconds < 1.0


def test_what_a_replica_carries_is_counted_from_its_beginning() -> None:
    costs = Costs()
    for _ in range(300):
        costs.took(0.02, 0.01, 0.03)
    load = costs.load(awake=3, resting=1)
    assert (load.awake, load.resting, load.steps) == (3, 1, 300)
    assert abs(load.step_seconds - 6) < 1e-6 and abs(load.decode_seconds - 3) < 1e-6

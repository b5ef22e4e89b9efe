"""How many worlds fit, by what was measured."""

from actors.costs import LEAST, Costs
from actors.source import WorldInfo

INFO = WorldInfo("a world", "0" * 64, 96, 144)


def measured(step: float, decode: float, info: WorldInfo = INFO) -> int | None:
    costs = Costs()
    for _ in range(LEAST):
        costs.took(step, decode)
    return costs.capacity(info)


def test_the_longer_of_the_two_stages_decides() -> None:
    assert measured(0.01, 0.02) == 10 and measured(0.04, 0.02) == 5


def test_a_step_of_several_latents_has_their_time() -> None:
    assert measured(0.01, 0.02, WorldInfo("a world", "0" * 64, 96, 144, latents_per_step=2)) == 20


def test_one_world_always_fits() -> None:
    assert measured(3.0, 0.1) == 1


def test_nothing_is_said_before_enough_is_known() -> None:
    costs = Costs()
    costs.took(0.01, 0.01)
    assert costs.capacity(INFO) is None

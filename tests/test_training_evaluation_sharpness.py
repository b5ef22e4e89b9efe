"""Edges: blur loses them, and only on the ground."""

from tests.blur import blurred
from training.evaluation.held_out import Film, Place, held_out_scenes, simulated
from training.evaluation.sharpness import edge_ratios, edges

PLACES: list[Place] = held_out_scenes(5)
LABELS = ["D"] * 6


def test_the_simulator_has_all_of_its_edges() -> None:
    figures = edge_ratios(simulated, PLACES, LABELS)
    assert set(figures.values()) == {1.0}
    assert {"edges_desert", "edges_night"} <= set(figures)


def softened(side: int) -> Film:
    return lambda scene, seed, labels: blurred(simulated(scene, seed, labels), side)


def test_blur_loses_edges_the_more_the_softer() -> None:
    soft, softer = (edge_ratios(softened(side), PLACES, LABELS) for side in (3, 7))
    assert soft["edges"] < 0.85 and softer["edges"] < 0.65
    assert softer["edges_least"] < soft["edges_least"] <= soft["edges"]


def test_only_the_ground_counts() -> None:
    frames = simulated(*PLACES[0], LABELS)
    sky = frames.copy()
    sky[:, :40] = 0
    assert edges(sky) == edges(frames)
    sky[:, 45:60, 100:] = 0
    assert edges(sky) != edges(frames)

"""The figures that have a target, and the table of what was measured."""

from __future__ import annotations

import math
from typing import Any

TARGETS = {  # the least and the most that a figure may be
    "reconstruction_db": (30.0, math.inf),
    "stream_50_yaw_left_ratio": (0.75, 1.25),
    "stream_50_yaw_right_ratio": (0.75, 1.25),
    "stream_50_straight": (0.9, math.inf),
    "yaw_sign_accuracy": (0.98, math.inf),
    "speed_class_accuracy": (0.9, math.inf),
    "response_seconds": (0.0, 0.15),
    "turn_rate_ratio": (0.8, 1.25),
    "prompt_at_start": (0.95, math.inf),
    "prompt_after_change": (0.95, math.inf),
    "edges_least": (0.85, math.inf),
    "edges_reconstructed_least": (0.93, math.inf),
    "patches_ratio": (0.0, 1.2),
    "road_straight": (0.8, 1.25),
    "road_random": (0.8, 1.25),
    "road_followed": (0.9, math.inf),
    "passing": (0.75, 1.3),
    "speed_D": (0.9, 1.1),
    "speed_B": (0.75, 1.25),
    "speed_N_stands": (0.9, 1.0),
    "closed_loop": (0.8, 1.0),
    "closed_loop_simulator": (0.95, 1.0),
    "horizon_long_inside": (1.0, math.inf),
    "horizon_long_segments": (1.0, math.inf),
    "horizon_straight_inside": (1.0, math.inf),
    "horizon_seeds_inside": (1.0, math.inf),
    "megabytes": (0.0, 40.0),
}


def passes(name: str, value: float) -> bool:
    least, most = TARGETS[name]
    return least <= value <= most


def table(results: list[dict[str, Any]]) -> str:
    """The figures with targets, a column per stage, and what the horizons are made of."""
    lines = [f"{'figure':28}{'target':>12}" + "".join(f"{r['stage']:>12}" for r in results)]
    for name, (least, most) in TARGETS.items():
        if not all(name in r for r in results):
            continue  # no long streams were asked for
        wanted = f">= {least:g}" if most == math.inf else f"{least:g} to {most:g}"
        cells = "".join(
            f"{r[name]:>9.3f} {'ok' if passes(name, r[name]) else '--'}" for r in results
        )
        lines.append(f"{name:28}{wanted:>12}{cells}")
    for r in results:
        lines.append(
            f"{r['stage']}: estimator on simulator frames: "
            f"yaw {r['estimator']['yaw_sign_accuracy']:.3f}, "
            f"speed {r['estimator']['speed_class_accuracy']:.3f}; probe {r['probe_accuracy']:.3f}"
        )
        lines += [f"{r['stage']}: {k}: {v}" for k, v in r.items() if k.startswith("horizon_")]
    return "\n".join(lines)

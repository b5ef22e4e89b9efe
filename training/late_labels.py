"""What late labels do: the weights' noise groups with the newest 1, 2, ... groups following the
newest key. `python -m training.late_labels models/tiny`, a line of JSON each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import one_line_errors
from models.checkpoint import Checkpoint
from models.controls import random_signal
from models.device import use_threads
from training.evaluation.control import held_labels, response
from training.evaluation.dream import Dream
from training.evaluation.held_out import held_out_scenes
from training.evaluation.horizon import courses, horizon
from training.evaluation.look import Look
from training.evaluation.probe import fitted_probe


def compared(checkpoint: Checkpoint, scenes: int) -> Iterator[dict[str, Any]]:
    """Response, turns, sharpness and five minutes' drift for every number of late labels."""
    places, probe = held_out_scenes(scenes), fitted_probe(view=Dream(checkpoint).view)[0]
    groups = checkpoint.streaming.noise_groups
    for late in range(1, groups + 1):
        dream = Dream(checkpoint, late)
        look = Look.of(dream.film(*places[0], random_signal(48, 5)), probe)
        turns = held_labels(dream.film, places, ("D", "DL", "DR"))
        yield {
            "noise_groups": groups,
            "late_labels": late,
            "response_seconds": response(dream.film, places)["response_seconds"],
            "yaw_sign_accuracy": turns["yaw_sign_accuracy"],
            "sharpness": look.sharpness,
            "horizon": horizon(checkpoint, late, probe, courses(5.0, 1), 1)[0].stream,
        }


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(prog="python -m training.late_labels", description=__doc__)
    made.add_argument("folder", type=Path, help="holds stage4, as models/tiny does")
    made.add_argument("--scenes", type=int, default=15, help="held-out scenes (default 15)")
    made.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
    chosen = made.parse_args(arguments)
    use_threads(chosen.threads)
    for row in compared(Checkpoint.open(chosen.folder / "stage4"), chosen.scenes):
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

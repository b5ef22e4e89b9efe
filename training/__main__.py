"""The whole recipe of the small world, or some of its stages: `python -m training
configs/train_tiny.yaml`.

Every stage resumes from files, so a run may be cut into commands of any length (--minutes) and
simply repeated until it says that all is done.
"""

from __future__ import annotations

from configs.interrupts import importing

with importing():
    import argparse
    import time
    from dataclasses import replace
    from pathlib import Path

    from configs.errors import one_line_errors
    from configs.limits import real_number
    from configs.load import load
    from models.device import pick_device
    from training import autoencoder, export, ranks, text
    from training.alone import alone
    from training.run import started
    from training.settings import TrainSettings

STAGES = ("data", "text", "autoencoder", "diffusion", "distill", "decoder", "export")
MOST_MINUTES = 1e6


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    made.add_argument(
        "config", type=Path, help="configs/train_tiny.yaml, or a copy with other sizes and steps"
    )
    made.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=list(STAGES),
        help="which to run, in this order",
    )
    made.add_argument(
        "--minutes", type=float, help="stop (resumably) after so long; without it, run to the end"
    )
    made.add_argument("--work", help="folder of clips and checkpoints (default: the config's)")
    made.add_argument("--output", help="folder of the exported weights (default: the config's)")
    made.add_argument(
        "--early",
        action="store_true",
        help="export although distillation has not begun: stage 4 = stage 3",
    )
    return made


def run(settings: TrainSettings, stages: list[str], minutes: float | None, early: bool) -> bool:
    """Runs stages in order; False when the minutes were over first."""
    begin = time.monotonic()
    pick_device(settings.device)
    if settings.start:
        started(settings, "control_embeddings.safetensors")  # rather told now than after an hour

    def left() -> float | None:
        return None if minutes is None else max(0.05, minutes - (time.monotonic() - begin) / 60)

    for stage in stages:
        with alone(Path(settings.work), stage):
            done = _run(stage, settings, left(), early)
        if not done:
            print(f"{stage}: time is over; the same command goes on from here")
            return False
    return True


def _run(stage: str, settings: TrainSettings, left: float | None, early: bool) -> bool:
    """One stage; False when the minutes were over first."""
    if stage == "data":
        kept = ((autoencoder.frames_kept(settings, which), which) for which in (False, True))
        return all(autoencoder.record(settings, *shards, left) for shards in kept)
    if stage == "text":
        text.train(settings)
    elif stage == "export":
        print(f"{settings.output}: {export.write(settings, distilled=not early) / 1e6:.1f} MB")
    else:
        return ranks.train(stage, settings, left)
    return True


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    settings = load(TrainSettings, config=chosen.config)
    if chosen.minutes is not None:
        real_number("--minutes", chosen.minutes, 0, MOST_MINUTES)
    given = {name: getattr(chosen, name) for name in ("work", "output")}
    changed = {name: value for name, value in given.items() if value is not None}
    done = run(replace(settings, **changed), chosen.stages, chosen.minutes, chosen.early)
    return 0 if done else 3


if __name__ == "__main__":
    raise SystemExit(main())

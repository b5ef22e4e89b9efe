"""``python -m pipeline bench``: measure this machine."""

import argparse
import importlib
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from configs.errors import UserError
from configs.interrupts import importing
from configs.limits import check_output_file
from configs.load import load
from configs.schema import RunConfig
from models.weight_folder import model_folder
from pipeline.bench.options import Options, machine
from pipeline.commands.flags import add_model_path

PURPOSE: Final = "Measure this machine: attention, models, live delay, loading."
EXAMPLES: Final = """\
  python -m pipeline bench                                      everything, a few minutes
  python -m pipeline bench live --seconds 60 --json live.json   the live split only
  python -m pipeline bench worlds                               how many worlds hold 16 FPS here
  python -m pipeline bench moments                              to save, open, branch, go back, wake
  python -m pipeline bench scaling                              a second replica, one processor each
  python -m pipeline bench branches                             eight futures in one process, or in eight
  python -m pipeline bench peers                                our networks against diffusers'
  python -m pipeline bench gpu --json gpu.json                  everything about one GPU, ten minutes"""
PARTS: Final = ("attention", "model", "live", "load")  # modules of pipeline/bench
# the same; no part of all
ON_REQUEST: Final = ("worlds", "moments", "scaling", "branches", "peers", "gpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``bench``."""
    parser.add_argument(
        "part",
        nargs="?",
        default="all",
        metavar="PART",
        help=f"all (default), {', '.join(PARTS)}; on request {', '.join(ON_REQUEST)}",
    )
    add_model_path(parser, "weights of model and live (default: as for run)")
    parser.add_argument(
        "--threads", metavar="N,N", default="1,2", help="thread counts of part model (default 1,2)"
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        default="60",
        help="seconds of shown stream of parts live and worlds, "
        "of all that is measured of scaling and branches (default 60)",
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="where part load writes its 4 GB (default: the temporary folder)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    parser.add_argument(
        "--shape",
        metavar="NAME",
        default="published",
        help="networks of part gpu: published (default) or tiny, which a CPU can do",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw the split of the live delay")


def main(args: argparse.Namespace) -> int:
    """Run the parts asked for and print a table for each."""
    known = ("all", *PARTS, *ON_REQUEST)
    if args.part not in known:
        raise UserError(f"bench: unknown part {args.part!r}; expected {', '.join(known)}")
    for name in ("json", "plot"):
        if getattr(args, name):
            check_output_file(Path(getattr(args, name)), f"--{name}")
    config = load(RunConfig, {"model_path": args.model_path, "duration": args.seconds})
    model, line = model_folder(config.model_path)
    options = Options(
        model=model,
        threads=_threads(args.threads),
        seconds=config.duration or 60.0,
        folder=Path(args.folder or tempfile.gettempdir()),
        plot=Path(args.plot) if args.plot else None,
        shape=args.shape,
        json=Path(args.json) if args.json else None,
    )
    figures: dict[str, Any] = {"machine": machine()}
    print(f"machine: {figures['machine']['summary']}")
    print(line or f"model: {model}")
    for part in PARTS if args.part == "all" else (args.part,):
        print(f"\n== {part}", flush=True)
        with importing():
            measured = importlib.import_module(f"pipeline.bench.{part}")
        figures[part] = measured.measure(options)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _threads(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1024 for part in parts):
        raise UserError(f"--threads: expected numbers such as 1,2, got {text[:40]!r}")
    return tuple(int(part) for part in parts)

"""``python -m pipeline run``: a live world with its page."""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

from configs.errors import UserError
from configs.interrupts import importing
from configs.load import load
from configs.schema import RunConfig
from pipeline.commands.flags import (
    add_address,
    add_beginning,
    add_end,
    add_engine,
    add_headless,
    add_ray_address,
    add_record,
    add_start,
    add_weights,
)
from pipeline.console import Console
from pipeline.signals import finish

PURPOSE: Final = (
    "Drive a live world: starts the workers, prints a URL, streams at 16 frames a second."
)
EXAMPLES: Final = """\
  python -m pipeline run                                        drive the embedded world in the browser
  python -m pipeline run --prompt "A red car in snow at night"  another start
  python -m pipeline run --start road.png --prompt "A blue car on a road in green hills"
  python -m pipeline run --headless --duration 10 --controls "D*16,DL*8,DR*16" --record drive.mp4
  python -m pipeline run --config configs/stage4.yaml           the published weights on four GPUs
  NUM_GPUS_DIT=2 NUM_GPUS_VAE=2 python -m pipeline run          two transformer ranks, two decoder shards"""


STARTING: Final = "starting: looking at weights and machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``run``. Environment: NUM_GPUS_DIT, NUM_GPUS_VAE, MODEL_PATH,
    CUDA_VISIBLE_DEVICES."""
    _add_world(parser.add_argument_group("the world"))
    _add_drive(parser.add_argument_group("the drive"))
    _add_page(parser.add_argument_group("the page"))
    _add_files(parser.add_argument_group("files"))


def _add_world(group: "argparse._ActionsContainer") -> None:
    add_beginning(group)
    add_start(group)
    add_weights(group, "MODEL_PATH; default models/stage4")
    add_engine(group)
    add_ray_address(group)


def _add_drive(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--controls",
        metavar="SIGNAL",
        help='labels to follow, one per latent (250 ms): "D*16,DL*8,DR*8"',
    )
    group.add_argument(
        "--replay",
        metavar="FILE.jsonl",
        help="follow a control log again, frame for frame; --controls come after it",
    )
    group.add_argument(
        "--continue",
        dest="go_on",
        nargs="?",
        const="",
        metavar="NAME",
        help="go on with a drive where it was shown last (the newest in which something was made, cut "
        "off or ended; all = every world of the launcher that died, with a page only)",
    )
    add_end(group)
    add_headless(group, "ends with the controls or duration")


def _add_page(group: "argparse._ActionsContainer") -> None:
    add_address(group)
    group.add_argument(
        "--allow-host",
        metavar="NAME",
        help="further names of this machine, as a reverse proxy may have; with commas",
    )
    group.add_argument("--worlds", metavar="N", help="worlds at once, this one included (8)")
    group.add_argument(
        "--replicas", metavar="N", help="transformer and decoder groups that share the worlds (1)"
    )
    group.add_argument(
        "--rest",
        metavar="SECONDS",
        help="a world that nobody watches rests after it (300; 0 = never)",
    )
    group.add_argument("--tls-cert", metavar="FILE.pem", help="certificate chain, for https")
    group.add_argument("--tls-key", metavar="FILE.pem", help="its private key")


def _add_files(group: "argparse._ActionsContainer") -> None:
    add_record(group)
    group.add_argument("--control-log", metavar="FILE.jsonl", help="write the control log there")
    group.add_argument("--summary", metavar="FILE.json", help="write the figures of the run there")
    group.add_argument(
        "--state",
        metavar="DIR",
        help="keep drives there, so that they can go on after a crash (the user's state folder)",
    )
    group.add_argument("--no-state", action="store_true", default=None, help="keep nothing")
    group.add_argument(
        "--config", metavar="FILE.yaml", help="settings by name; flags and environment win over it"
    )
    group.add_argument(
        "--json-logs", action="store_true", default=None, help="log lines as JSON objects"
    )
    group.add_argument(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning (default) or error: how much the parts tell of themselves",
    )
    group.add_argument(
        "--keep-logs",
        metavar="DIR",
        help="put the logs of launcher, Ray and workers there, with the traceback of what went wrong",
    )


def main(args: argparse.Namespace) -> int:
    """Drive a live world; the exit code: 0, 128 + signal, or 1 after a fault that could not be
    mended."""
    begun = time.monotonic()
    flags = {name: value for name, value in vars(args).items() if name != "config"}
    config = load(RunConfig, flags, None if args.config is None else Path(args.config))
    if args.seed is not None and (config.go_on is not None or config.replay is not None):
        raise UserError("--seed: a drive that goes on or is replayed has its own; leave it out")
    console = Console(config.json_logs)
    console.say("stage", STARTING, stage="starting")
    with importing():
        # torch and Ray take seconds to import: bad flags are told before
        from pipeline.launch import Launch

    launch = Launch.make(config, lambda line: console.say("stage", line, stage="starting"))
    return finish(asyncio.run(launch.run(console, begun)))

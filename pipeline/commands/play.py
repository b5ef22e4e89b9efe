"""``python -m pipeline play -- COMMAND``: drive any program that speaks the frame protocol, with
the same page."""

import argparse
import asyncio
from typing import Final

from configs.interrupts import importing
from configs.load import environment_of, load
from configs.schema import RunConfig
from pipeline.commands.flags import (
    add_address,
    add_beginning,
    add_end,
    add_headless,
    add_record,
)
from pipeline.console import Console
from pipeline.signals import finish

PURPOSE: Final = (
    "Drive any program that speaks the frame protocol of docs/protocol.md, "
    "such as the training simulator."
)
EXAMPLES: Final = """\
  python -m pipeline play -- python -m training.driving_world --pipe     the simulator the small world learned from"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``play``. Environment: MATRIX_TOKEN."""
    add_beginning(parser, "of the program")
    add_address(parser)
    add_end(parser)
    add_headless(parser, "frames are consumed at 16 FPS")
    add_record(parser)
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="the program and its arguments, after --"
    )


def main(args: argparse.Namespace) -> int:
    """Play the program's world; the exit code."""
    flags = {name: value for name, value in vars(args).items() if name != "command"}
    config = load(RunConfig, flags, environment=environment_of("MATRIX_TOKEN"))
    with importing():
        # the page's libraries take a second to import: bad flags are told before
        from pipeline.launch_program import play_program

    return finish(asyncio.run(play_program(config, args.command, Console(config.json_logs))))

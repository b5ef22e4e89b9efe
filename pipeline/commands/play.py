"""``python -m pipeline play -- COMMAND``: drive any program that speaks the frame protocol, with
the same page."""

import argparse
import asyncio
from typing import Final

from configs.load import load
from configs.schema import RunConfig
from pipeline.console import Console
from pipeline.signals import finish

PURPOSE: Final = (
    "Drive any program that speaks the frame protocol of docs/protocol.md, "
    "such as the training simulator."
)
EXAMPLES: Final = """\
  python -m pipeline play -- python -m training.driving_world --pipe     the simulator the small world learned from"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``play``."""
    parser.add_argument("--seed", metavar="N", help="seed of the program's world (default 42)")
    parser.add_argument("--prompt", metavar="TEXT", help="default: the program's first preset")
    parser.add_argument("--host", metavar="NAME", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port", metavar="N", help="port of the page (default 8000; 0 = any free one)"
    )
    parser.add_argument("--duration", metavar="S", help="end after so many seconds of shown stream")
    parser.add_argument(
        "--headless",
        action="store_true",
        default=None,
        help="no page: frames are consumed at 16 FPS",
    )
    parser.add_argument("--record", metavar="FILE", help="mp4 of every shown frame")
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="the program and its arguments, after --"
    )


def main(args: argparse.Namespace) -> int:
    """Play the program's world; the exit code."""
    flags = {name: value for name, value in vars(args).items() if name != "command"}
    config = load(RunConfig, flags, environment={})
    # the page's libraries take a second to import: bad flags are told before
    from pipeline.launch_program import play_program

    return finish(asyncio.run(play_program(config, args.command, Console(config.json_logs))))

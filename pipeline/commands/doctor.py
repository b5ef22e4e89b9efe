"""``python -m pipeline doctor``: what this machine has, what is missing, and what to do about it."""

import argparse
from typing import Final

from configs.interrupts import importing

PURPOSE: Final = "Look at this machine: packages, memory, Ray, ffmpeg, weights, and its speed."
EXAMPLES: Final = """\
  python -m pipeline doctor             all of it, in under 20 seconds
  python -m pipeline doctor --no-drive  without the short drive that measures the speed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``doctor``."""
    parser.add_argument(
        "--no-drive", action="store_true", help="start no workers: nothing is measured"
    )
    parser.add_argument(
        "--paths", action="store_true", help="say paths whole; without it the home folder is ~"
    )


def main(args: argparse.Namespace) -> int:
    """Print a line for everything that was looked at; 1 if something must be mended."""
    with importing():
        # torch takes seconds to import: bad flags are told before
        from pipeline.doctor import report

    return report(drive=not args.no_drive, paths=args.paths)

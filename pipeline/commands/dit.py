"""``python -m pipeline dit``: the transformer group alone."""

import argparse
import asyncio
from typing import Final

from configs.interrupts import importing
from configs.limits import whole_number
from configs.load import load
from configs.schema import RunConfig
from pipeline.commands.flags import add_beginning, add_end, add_engine, add_ray_address, add_weights
from pipeline.console import Console
from pipeline.signals import finish

PURPOSE: Final = "Run the transformer group alone and print latents per second, until Ctrl-C."
EXAMPLES: Final = """\
  python -m pipeline dit                                        one rank, default weights
  python -m pipeline dit --ranks 2 --model-path models/stage4   two ranks"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dit``."""
    parser.add_argument(
        "--ranks",
        metavar="N",
        help="transformer ranks: GPUs, or CPU processes without any (NUM_GPUS_DIT)",
    )
    add_beginning(parser)
    add_end(parser, "running (default: Ctrl-C)")
    add_weights(parser, "MODEL_PATH; default models/stage4")
    add_engine(parser)
    add_ray_address(parser)


def main(args: argparse.Namespace) -> int:
    """Run the DiT group alone and print its speed."""
    flags = {name: value for name, value in vars(args).items() if name != "ranks"}
    config = load(RunConfig, {**flags, "num_gpus_dit": args.ranks})
    whole_number("ranks", config.num_gpus_dit or 1, 1, 999)
    with importing():
        # torch and Ray take seconds to import: bad flags are told before
        from pipeline.dit_speed import DitSpeed

    return finish(asyncio.run(DitSpeed(config, Console(config.json_logs)).run()))

"""Stage 2 as a script: a base video of up to 4 s from a prompt and a control signal, with every
setting at hand."""

import argparse
from typing import Final

from configs.interrupts import importing
from configs.load import load, spin_briefly
from configs.schema import BaseConfig, OfflineConfig
from models.controls import parse_signal, reduce_raw
from pipeline.commands.flags import add_offline

PURPOSE: Final = "Stage 2: a video of up to 4 s from a prompt and a control signal."
EXAMPLES: Final = """\
  python -m pipeline base --prompt "A car on a desert road" --output base.mp4
  python -m pipeline base --prompt "..." --controls "D*9,DL*8" --steps 20 --seed 7 --output left.mp4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``base``."""
    add_offline(parser)
    parser.add_argument(
        "--frames", metavar="N", help="video frames, 4 n + 1 (default 65: 4 s at 16 FPS)"
    )
    parser.add_argument("--steps", metavar="N", help="DDIM steps (default 50)")
    parser.add_argument(
        "--start-clip",
        metavar="FILE",
        help="also write the latents, as start_clips.safetensors of a weight folder",
    )


def main(args: argparse.Namespace) -> int:
    """Make the video and print its path."""
    config = load(BaseConfig, vars(args), environment={})
    labels = given_labels(config)
    spin_briefly()
    with importing():
        # torch takes seconds to import: bad flags are told before
        from pipeline.stage_videos import write_base

    write_base(config, labels)
    return 0


def given_labels(config: OfflineConfig) -> list[str]:
    """The control signal as one label per latent; [] without one. Raises UserError."""
    labels = [] if config.controls is None else parse_signal(config.controls)
    return reduce_raw(labels) if config.raw_controls else labels

"""Stages 3 and 4 as a script: continue a clip for as long as asked, with every setting at hand."""

import argparse
from typing import Final

from configs.interrupts import importing
from configs.load import load, spin_briefly
from configs.schema import StreamConfig
from pipeline.commands.base import given_labels
from pipeline.commands.flags import add_engine, add_offline, add_start

PURPOSE: Final = "Stages 3 and 4: continue a video for as long as you like, offline."
EXAMPLES: Final = """\
  python -m pipeline stream --prompt "A car on a desert road" --init-video base.mp4 --sample-groups 32 --output long.mp4
  python -m pipeline stream --stage 3 --prompt "..." --controls "D*20,DR*20" --sample-groups 37 --output drive.mp4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``stream``."""
    add_offline(parser)
    stream = parser.add_argument_group("streaming")
    add_engine(stream)
    stream.add_argument(
        "--stage",
        metavar="3|4",
        help="default weights: stage 3 (DPM++) or 4 (one call a latent; default)",
    )
    _add_first_frames(stream)
    stream.add_argument(
        "--clip-frames",
        metavar="N",
        help="frames of the window, 4 G W + 1 (default: the weights' own)",
    )
    stream.add_argument(
        "--noise-groups", metavar="G", help="noise groups in the window (default: the weights' own)"
    )
    stream.add_argument(
        "--sample-groups",
        metavar="S",
        help="outer steps; the video has 4 S W frames, and follows W (S + G) + 1 labels (default 8)",
    )
    stream.add_argument(
        "--steps", metavar="T", help="inference steps, a multiple of G (default: the weights' own)"
    )
    stream.add_argument(
        "--late-labels",
        metavar="B",
        help="newest groups that follow the newest label (weights' own)",
    )
    stream.add_argument(
        "--control-guidance",
        metavar="X",
        help="guidance towards the labels; 1 = none (default: the weights' own)",
    )


def _add_first_frames(stream: "argparse._ActionsContainer") -> None:
    """What the stream begins with."""
    stream.add_argument(
        "--init-video",
        metavar="FILE",
        help="clip to continue, as it is (default: a start clip of the weights)",
    )
    add_start(stream)


def main(args: argparse.Namespace) -> int:
    """Make the video and print its path."""
    config = load(StreamConfig, vars(args), environment={})
    labels = given_labels(config)
    spin_briefly()
    with importing():
        # torch takes seconds to import: bad flags are told before
        from pipeline.stage_videos import write_stream

    write_stream(config, labels)
    return 0

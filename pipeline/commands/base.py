"""Stage 2 as a script: a base video of up to 4 s from a prompt and a control signal, with every
setting at hand."""

import argparse
from typing import Final

from configs.load import load
from configs.schema import BaseConfig, OfflineConfig
from models.controls import parse_signal, reduce_raw
from pipeline.commands.flags import add_weights

PURPOSE: Final = "Stage 2: a video of up to 4 s from a prompt and a control signal."
EXAMPLES: Final = """\
  python -m pipeline base --prompt "A car on a desert road" --output base.mp4
  python -m pipeline base --prompt "..." --controls "D*9,DL*8" --steps 20 --seed 7 --output left.mp4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``base``."""
    add_common_arguments(parser)
    parser.add_argument(
        "--frames", metavar="N", help="video frames, 4 n + 1 (default 65: 4 s at 16 FPS)"
    )
    parser.add_argument("--steps", metavar="N", help="DDIM steps (default 50)")
    parser.add_argument(
        "--start-clip",
        metavar="FILE",
        help="also write the latents, as start_clips.safetensors of a weight folder",
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that both stage scripts know; everything is None unless given."""
    parser.add_argument("--prompt", help="description of the world (required)")
    parser.add_argument(
        "--output", metavar="FILE", help="the mp4 to write; an existing file is refused"
    )
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="replace an existing output file"
    )
    add_weights(parser.add_argument_group("weights"), "default models/stageN")
    _add_controls(parser.add_argument_group("controls"))
    _add_sampling(parser.add_argument_group("sampling"))


def _add_controls(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--controls",
        metavar="LABELS",
        help='one label per latent (4 frames): "D,DL" or "D*16,DL*8"',
    )
    group.add_argument(
        "--raw-controls",
        action="store_true",
        default=None,
        help="--controls has one label per frame",
    )
    group.add_argument(
        "--control-seed",
        metavar="N",
        help="seed of random labels where --controls is short or missing",
    )


def _add_sampling(group: "argparse._ActionsContainer") -> None:
    group.add_argument("--seed", metavar="N", help="seed of the noise (default 42)")
    group.add_argument(
        "--guidance-scale", metavar="X", help="classifier-free guidance (default: the weights' own)"
    )
    group.add_argument(
        "--width", metavar="PIXELS", help="multiple of 16 (default: the weights' own)"
    )
    group.add_argument(
        "--height", metavar="PIXELS", help="multiple of 16 (default: the weights' own)"
    )
    group.add_argument("--fps", metavar="N", help="frames per second of the file (default 16)")
    group.add_argument(
        "--dtype", metavar="NAME", help="auto, float32, bfloat16 or float16 (default auto)"
    )
    group.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto)")


def main(args: argparse.Namespace) -> int:
    """Make the video and print its path."""
    config = load(BaseConfig, vars(args), environment={})
    labels = given_labels(config)
    # torch takes seconds to import: bad flags are told before
    from pipeline.stage_videos import write_base

    write_base(config, labels)
    return 0


def given_labels(config: OfflineConfig) -> list[str]:
    """The control signal as one label per latent; [] without one. Raises UserError."""
    labels = [] if config.controls is None else parse_signal(config.controls)
    return reduce_raw(labels) if config.raw_controls else labels

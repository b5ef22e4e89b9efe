"""``python -m pipeline plan``: what a run would cost on devices that need not be here."""

import argparse
from typing import Final

from configs.errors import UserError
from configs.interrupts import importing
from configs.limits import quoted, whole_number
from configs.load import nearest
from pipeline.commands.flags import add_model_path

PURPOSE: Final = "Predict speed, delay and memory for a device and a number of them."
EXAMPLES: Final = """\
  python -m pipeline plan --device h100 --gpus 8                the published shapes
  python -m pipeline plan --device 4090 --gpus 2 --vae tiny     with the tiny decoder
  python -m pipeline plan --device cpu --model-path models/tiny/stage4"""
DEVICES: Final = ("h100", "h200", "a100", "l40s", "4090", "cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``plan``."""
    add_model_path(parser, "weight folder (default: the published shapes)")
    parser.add_argument(
        "--vae",
        metavar="full|tiny",
        help="decoder of the published shapes (default full); a folder has its own",
    )
    parser.add_argument(
        "--device", metavar="NAME", default="h100", help=f"{', '.join(DEVICES)} (default h100)"
    )
    parser.add_argument(
        "--gpus", metavar="N", default="1", help="how many of them, 1 to 8 (default 1)"
    )


def main(args: argparse.Namespace) -> int:
    """Check the flags and print the prediction."""
    device = _device(args.device)
    if args.vae not in (None, "full", "tiny"):
        raise UserError(f"--vae {args.vae!r}: expected full or tiny")
    if args.vae is not None and args.model_path is not None:
        raise UserError(
            "--vae: chooses a decoder for the published shapes, and --model-path has its own; leave "
            "one of them out"
        )
    text = args.gpus
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise UserError(f"--gpus: expected a whole number from 1 to 8, got {quoted(text)}")
    devices = whole_number("--gpus", int(text), 1, 8)
    with importing():
        # torch takes seconds to import: bad flags are told before
        from pipeline.plan import report

    report(args.model_path, args.vae or "full", device, devices)
    return 0


def _device(name: str) -> str:
    """A known one, however it is written. Raises UserError."""
    if name.lower() in DEVICES:
        return name.lower()
    hint = nearest(name.lower(), DEVICES)
    known = f" known are {', '.join(DEVICES)}" if hint.endswith("?") else ""
    raise UserError(f"--device: unknown device {name!r}{hint}{known}")

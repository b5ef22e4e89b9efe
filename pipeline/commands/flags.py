"""The flags that several commands have, each said once."""

import argparse

from configs.choice import ENGINES


def add_model_path(group: "argparse._ActionsContainer", what: str) -> None:
    """Whose weights. what: what the help says of them, and of no folder at all."""
    group.add_argument("--model-path", metavar="DIR", help=what)


def add_weights(group: "argparse._ActionsContainer", unset: str) -> None:
    """Which weights are loaded. unset: what the help says of no folder at all."""
    add_model_path(group, f"weight folder ({unset}, else the embedded one)")
    group.add_argument(
        "--base-model-path", metavar="DIR", help="folder of what a transformer-only folder lacks"
    )
    group.add_argument(
        "--variant", metavar="NAME", help="of several precisions side by side, such as fp16"
    )
    group.add_argument(
        "--lora",
        metavar="FILE[:SCALE]",
        action="append",
        help="safetensors file fused into the transformer, times SCALE; may be given several times",
    )
    group.add_argument(
        "--vae",
        nargs=2,
        metavar=("tiny", "FILE"),
        help="a TAECVX file in place of the folder's decoder",
    )
    group.add_argument(
        "--clip", metavar="DIR", help="local CLIP folder, for weights without control embeddings"
    )


def add_engine(group: "argparse._ActionsContainer") -> None:
    """What computes streams."""
    group.add_argument(
        "--engine",
        metavar="NAME",
        help=f"{', '.join(ENGINES)} (default: the fastest here, measured once)",
    )


def add_ray_address(group: "argparse._ActionsContainer") -> None:
    """Whose Ray cluster the workers join."""
    group.add_argument(
        "--ray-address", metavar="HOST:PORT", help="use this Ray cluster and leave it running"
    )


def add_beginning(group: "argparse._ActionsContainer", whose: str = "of the weights") -> None:
    """The prompt and the seed that the world begins with. whose: the presets of which the first is taken."""
    group.add_argument(
        "--prompt",
        metavar="TEXT",
        help=f"what the world looks like (default: the first preset {whose})",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        help="0 to 2^53 - 1; the same seed and controls make the same frames (default 42)",
    )


def add_start(group: "argparse._ActionsContainer") -> None:
    """A picture of one's own that the world begins with."""
    group.add_argument(
        "--start",
        metavar="FILE",
        help="a picture or a video (.png, .jpg, .mp4) of any size to begin with, cut and resized; "
        "name it in --prompt",
    )


def add_end(group: "argparse._ActionsContainer", of: str = "shown stream") -> None:
    """When it ends by itself. of: what the seconds count."""
    group.add_argument("--duration", metavar="SECONDS", help=f"end after so many seconds of {of}")


def add_headless(group: "argparse._ActionsContainer", end: str) -> None:
    """Without a page. end: what the help says of how it ends."""
    group.add_argument("--headless", action="store_true", default=None, help=f"no page; {end}")


def add_address(group: "argparse._ActionsContainer") -> None:
    """Where the page is."""
    group.add_argument("--host", metavar="ADDRESS", help="address to listen on (default 127.0.0.1)")
    group.add_argument(
        "--port", metavar="N", help="port to listen on (default 8000; 0 = any free one)"
    )


def add_record(group: "argparse._ActionsContainer") -> None:
    """What is kept of what was shown."""
    group.add_argument(
        "--record", metavar="FILE.mp4", help="record all frames, and their control log beside it"
    )


def add_offline(parser: argparse.ArgumentParser) -> None:
    """What both stage scripts know."""
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

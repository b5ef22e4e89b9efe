"""The flags that choose weights, the same for every command that loads some."""

import argparse

from configs.choice import ENGINES


def add_weights(group: "argparse._ActionsContainer", unset: str) -> None:
    """Which weights are loaded. unset: what the help says of no folder at all."""
    group.add_argument(
        "--model-path",
        metavar="DIR",
        help=f"weight folder ({unset}, else the embedded one)",
    )
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

"""Flags that ``run`` and ``dit`` share: which weights, and whose cluster."""

import argparse


def add_weights(group: "argparse._ActionsContainer") -> None:
    """Which weights are loaded, and by whose cluster."""
    group.add_argument(
        "--model-path",
        metavar="DIR",
        help="weight folder (MODEL_PATH; default models/stage4, else embedded)",
    )
    group.add_argument(
        "--base-model-path", metavar="DIR", help="folder of what a transformer-only folder lacks"
    )
    group.add_argument("--lora", metavar="FILE", help="safetensors file fused into the transformer")
    group.add_argument(
        "--vae",
        nargs=2,
        metavar=("tiny", "FILE"),
        help="a TAECVX file in place of the folder's decoder",
    )
    group.add_argument(
        "--clip", metavar="DIR", help="local CLIP folder, for weights without control embeddings"
    )
    group.add_argument(
        "--ray-address", metavar="HOST:PORT", help="use this Ray cluster and leave it running"
    )

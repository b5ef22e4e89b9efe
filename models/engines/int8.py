"""What int8 needs to know of a tiny decoder: the largest input of each convolution, from a file beside
the weights."""

from pathlib import Path

import torch

from configs.errors import UserError
from models.engines.decoder import Ranges, convolutions
from models.weights import WeightFiles

INT8_FILE = "decoder_int8.safetensors"


def read_ranges(file: Path, decoder: str) -> Ranges | None:
    """Return the ranges in a file of [1] tensors, one per convolution; None when they were measured
    for another decoder than the one with this fingerprint.

    Raises UserError for other tensors, and for ranges that are none.
    """
    weights = WeightFiles.open(file)
    if weights.metadata.get("decoder") != decoder:
        return None
    expected = dict.fromkeys(convolutions(), (1,))
    weights.check(expected)
    tensors = weights.read(expected, torch.device("cpu"), torch.float32)
    ranges = {name: float(tensor) for name, tensor in tensors.items()}
    for name, high in ranges.items():
        if not 0 <= high < 1e6:
            raise UserError(f"{file}: {name}: expected a range from 0 to 1e6, got {high}")
    return ranges

"""An engine by name: what decodes a stream and what computes a step, the same for live runs, the API
and the evaluation.

Without a name it is PyTorch, as the weights are and in the number formats that `models.device` picks.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.device import cores_of_each, pick_decoder_dtype
from models.engines.decoder import GraphDecoder, Ranges
from models.engines.step import GraphStepper, Keys
from models.frames import StreamDecoder
from models.parallel import SequenceGroup
from models.tae import TinyVAE
from models.transformer import TextTokens, Timestep, Transformer
from models.vae import FullVAE

DTYPES = {"torch-fp32": torch.float32, "torch-bf16": torch.bfloat16}  # of a tiny decoder


class LoadedDecoder(Protocol):
    """A loaded decoder; streams share all but their memory."""

    def stream(self, group: SequenceGroup | None = None) -> StreamDecoder:
        """A fresh stream; with a group, of this worker's slice of the width."""
        ...


class Stepper(Protocol):
    """A loaded transformer with all that its rows of timesteps determine."""

    def velocity(self, latents: Tensor, text: TextTokens, row: int, labels: Tensor) -> Tensor:
        """Window [F, C, h, w], texts of B prompts, label ids [F] -> [B, F, C, h, w]."""
        ...


class TorchDecoder:
    """PyTorch decodes; dtype is what a tiny decoder computes in."""

    def __init__(self, vae: FullVAE | TinyVAE, dtype: torch.dtype) -> None:
        self._vae, self._dtype = vae, dtype

    def stream(self, group: SequenceGroup | None = None) -> StreamDecoder:
        """See LoadedDecoder."""
        if isinstance(self._vae, TinyVAE):
            return self._vae.stream(group, self._dtype)
        return self._vae.stream(group)


class TorchStepper:
    """PyTorch steps, alone or as one rank of a group."""

    def __init__(
        self, transformer: Transformer, rows: Sequence[tuple[Timestep, Keys]], group: SequenceGroup
    ) -> None:
        self._transformer, self._rows, self._group = transformer, rows, group

    def velocity(self, latents: Tensor, text: TextTokens, row: int, labels: Tensor) -> Tensor:
        """See Stepper."""
        modulation, vocabulary = self._rows[row]
        keys = [(k.index_select(1, labels), v.index_select(1, labels)) for k, v in vocabulary]
        batch = latents.expand(text.tokens.shape[0], *latents.shape)
        return self._transformer.denoise(batch, text, modulation, keys, self._group)


def served_decoder(
    vae: FullVAE | TinyVAE,
    engine: str | None = None,
    ranges: Ranges | None = None,
    dtype: str = "auto",
) -> LoadedDecoder:
    """What decodes with this engine. ranges: for int8. dtype: the number format's name, where no
    engine is given."""
    if isinstance(vae, TinyVAE) and engine in ("openvino-fp32", "openvino-int8"):
        assert engine != "openvino-int8" or ranges is not None, "choose.py checks this"
        return GraphDecoder(vae, ranges if engine == "openvino-int8" else None)
    device = next(vae.parameters()).device
    return TorchDecoder(vae, DTYPES.get(engine or "") or pick_decoder_dtype(dtype, device))


def decoder_threads(*, small: bool, engine: str | None, workers: int) -> int:
    """CPU threads of each of so many workers of a live run: the transformer rests while they decode,
    so the cores are free. PyTorch's threads have to be woken for each map, and those of a small
    world take longer on several."""
    woken = engine is None or engine in DTYPES
    return 1 if small and woken else cores_of_each(workers)


def served_stepper(
    transformer: Transformer,
    rows: Sequence[tuple[Timestep, Keys]],
    group: SequenceGroup,
    engine: str | None = None,
) -> Stepper:
    """What steps with this engine. Ranks of a group exchange tokens inside the step, which only
    PyTorch does here: to rounding it gives the same."""
    if group.size == 1 and engine in ("openvino-fp32", "openvino-int8"):
        return GraphStepper(transformer, rows)
    return TorchStepper(transformer, rows, group)


def served_stream(
    vae: FullVAE | TinyVAE, group: SequenceGroup | None = None, dtype: str = "auto"
) -> StreamDecoder:
    """Begin a stream in PyTorch, in the number format called dtype."""
    return served_decoder(vae, dtype=dtype).stream(group)

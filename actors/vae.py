"""One worker of the VAE group: decodes every chunk on its slice of the width."""

import os
import time
from typing import Final

import numpy as np
import torch
from torch import Tensor

from actors.records import LatentChunk, Memory, Slice
from actors.worker import Worker, settle
from configs.choice import WeightChoice
from models.device import use_threads
from models.engines.serve import LoadedDecoder
from models.frames import StreamDecoder

MEMORY_BYTES: Final = 8 << 20  # a temporal memory up to this size is handed back with every chunk


class VaeWorker(Worker):
    """The decoder's worker ``rank`` of ``size``. Its temporal memory lives here, from ``reset``
    on."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        if (
            self.device.type == "cpu"
        ):  # the transformer rests while frames are decoded: the cores are free
            use_threads(max(1, len(os.sched_getaffinity(0)) // size))
        self._decoder: LoadedDecoder | None = None
        self._stream: StreamDecoder | None = None
        self._next = 0

    def join(self, init_method: str) -> None:
        """Meet the other workers and load the decoder."""
        super().join(init_method)
        self._decoder = self.checkpoint.decoder(self.device, self.dtype)
        self.reset()
        settle()

    def reset(self) -> None:
        """A new stream: forget everything but the weights."""
        assert self._decoder is not None, "join comes first"
        self._stream = self._decoder.stream(self.group)
        self._next = 0

    def decode(self, chunk: LatentChunk) -> Slice:
        """This worker's slice of the frames (none yet for the full decoder's very first latent),
        and the temporal memory after them when it is small; else what came before has to be
        replayed after a fault."""
        started = time.monotonic()
        frames = self._push(chunk)
        return Slice(frames, started, time.monotonic(), self._memory())

    def restore(self, following: int, memory: Memory | None, *replay: LatentChunk) -> None:
        """Be where an undisturbed worker would be before latent ``following``: from its ``memory``
        if there is one, else by decoding the chunks before it again, whose frames were shown
        already."""
        self.reset()
        if memory is not None:
            self.stream.load_state(
                {name: torch.from_numpy(array.copy()) for name, array in memory.items()}
            )
        elif replay:
            self._next = replay[0].index
            for chunk in replay:
                self._push(chunk)
        self._next = following

    @property
    def stream(self) -> StreamDecoder:
        assert self._stream is not None, "join comes first"
        return self._stream

    def _push(self, chunk: LatentChunk) -> np.ndarray:
        if chunk.index != self._next:
            raise RuntimeError(f"latent {chunk.index} came where {self._next} was expected")
        self._next += len(chunk.latents)
        return self.stream.push(unpack(chunk).to(self.device, self.dtype))

    def _memory(self) -> Memory | None:
        memory: dict[str, Tensor] = self.stream.state()
        if sum(tensor.numel() * tensor.element_size() for tensor in memory.values()) > MEMORY_BYTES:
            return None
        # As arrays: Ray ships those without a copy, but pickles tensors, which took 4 ms a latent.
        # float32: numpy has no bfloat16, and every one of its numbers is a float32 too.
        return {name: tensor.float().cpu().numpy() for name, tensor in memory.items()}


def unpack(chunk: LatentChunk) -> Tensor:
    """The chunk's latents [W, C, h, w]."""
    latents = torch.from_numpy(chunk.latents.copy())  # arrays from the object store are read-only
    return latents.view(torch.bfloat16) if chunk.bfloat16 else latents

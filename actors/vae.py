"""One worker of the VAE group: decodes every chunk of every session on its slice of the width."""

import time

import numpy as np
import torch
from torch import Tensor

from actors.records import LatentChunk, Memory, Slice
from actors.worker import Worker, settle
from configs.choice import WeightChoice
from models.device import cores_of_each, use_threads
from models.engines.serve import LoadedDecoder
from models.frames import StreamDecoder
from models.snapshot import MEMORY_BYTES


class VaeWorker(Worker):
    """The decoder's worker ``rank`` of ``size``. The temporal memory of each world lives here, by
    the number of its session, from ``reset`` on."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        # the transformer rests while frames are decoded: the cores are free
        if self.device.type == "cpu":
            use_threads(cores_of_each(size))
        self._decoder: LoadedDecoder | None = None
        self._streams: dict[int, StreamDecoder] = {}
        self._next: dict[int, int] = {}  # latent that each world's stream is at

    def join(self, init_method: str) -> None:
        """Meet the other workers and load the decoder."""
        super().join(init_method)
        self._decoder = self.checkpoint.decoder(self.device, self.dtype)
        settle()

    def reset(self, world: int) -> None:
        """A new stream: forget everything of this world."""
        assert self._decoder is not None, "join comes first"
        self._streams[world] = self._decoder.stream(self.group)
        self._next[world] = 0

    def forget(self, world: int) -> None:
        """Give a world's memory back."""
        self._streams.pop(world, None)
        self._next.pop(world, None)

    def decode(self, world: int, chunk: LatentChunk) -> Slice:
        """This worker's slice of the frames (none yet for the full decoder's very first latent),
        and the temporal memory after them when it is small; else what came before has to be
        replayed after a fault."""
        started, busy = time.monotonic(), time.process_time()
        frames, memory = self._push(world, chunk), self._memory(world)
        return Slice(
            frames=frames,
            started=started,
            ended=time.monotonic(),
            processors=time.process_time() - busy,
            memory=memory,
        )

    def restore(
        self, world: int, following: int, memory: Memory | None, *replay: LatentChunk
    ) -> None:
        """Be where an undisturbed worker would be before latent ``following``: from its ``memory``
        if there is one, else by decoding the chunks before it again, whose frames were shown
        already."""
        self.reset(world)
        if memory is not None:
            self._streams[world].load_state(
                {name: torch.from_numpy(array.copy()) for name, array in memory.items()}
            )
        elif replay:
            self._next[world] = replay[0].index
            for chunk in replay:
                self._push(world, chunk)
        self._next[world] = following

    def _push(self, world: int, chunk: LatentChunk) -> np.ndarray:
        if chunk.index != self._next[world]:
            raise RuntimeError(f"latent {chunk.index} came where {self._next[world]} was expected")
        self._next[world] += len(chunk.latents)
        return self._streams[world].push(unpack(chunk).to(self.device, self.dtype))

    def _memory(self, world: int) -> Memory | None:
        memory: dict[str, Tensor] = self._streams[world].state()
        if sum(tensor.numel() * tensor.element_size() for tensor in memory.values()) > MEMORY_BYTES:
            return None
        # As arrays: Ray ships those without a copy, but pickles tensors, which took 4 ms a latent.
        # float32: numpy has no bfloat16, and every one of its numbers is a float32 too.
        return {name: tensor.float().cpu().numpy() for name, tensor in memory.items()}


def unpack(chunk: LatentChunk) -> Tensor:
    """The chunk's latents [W, C, h, w]."""
    latents = torch.from_numpy(chunk.latents.copy())  # arrays from the object store are read-only
    return latents.view(torch.bfloat16) if chunk.bfloat16 else latents

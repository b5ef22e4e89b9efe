"""One worker of the VAE group: decodes every chunk of every session on its slice of the width."""

import time

import torch
from torch import Tensor

from actors.records import LatentChunk, Slice
from actors.worker import Worker, settle
from configs.choice import WeightChoice
from models.device import use_threads
from models.engines.serve import LoadedDecoder, decoder_threads
from models.frames import StreamDecoder, remember


class VaeWorker(Worker):
    """The decoder's worker ``rank`` of ``size``. The temporal memory of each world lives here, by
    the number of its session, from ``reset`` on."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        self._decoder: LoadedDecoder | None = None
        self._streams: dict[int, StreamDecoder] = {}
        self._next: dict[int, int] = {}  # latent that each world's stream is at

    def join(self, init_method: str) -> None:
        """Meet the other workers and load the decoder."""
        super().join(init_method)
        checkpoint = self.checkpoint
        if self.device.type == "cpu":
            small = checkpoint.tiny and not checkpoint.transformer_config.large
            engine = checkpoint.engine
            use_threads(decoder_threads(small=small, engine=engine, workers=self.size))
        self._decoder = checkpoint.decoder(self.device, self.dtype)
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
        """This worker's slice of the frames (none yet for the full decoder's very first latent)."""
        started, busy = time.monotonic(), time.process_time()
        if chunk.index != self._next[world]:
            raise RuntimeError(f"latent {chunk.index} came where {self._next[world]} was expected")
        self._next[world] += len(chunk.latents)
        frames = self._streams[world].push(unpack(chunk).to(self.device, self.dtype))
        return Slice(
            frames=frames,
            started=started,
            ended=time.monotonic(),
            processors=time.process_time() - busy,
        )

    def restore(self, world: int, following: int, *before: LatentChunk) -> None:
        """Be where an undisturbed worker would be before latent ``following``, by decoding the last
        of the chunks ``before`` it again, whose frames were shown already."""
        self.reset(world)
        if before:
            latents = torch.cat([unpack(chunk) for chunk in before])
            step = self.checkpoint.streaming.window_size
            remember(self._streams[world], latents.to(self.device, self.dtype), step)
        self._next[world] = following


def unpack(chunk: LatentChunk) -> Tensor:
    """The chunk's latents [W, C, h, w]."""
    latents = torch.from_numpy(chunk.latents.copy())  # arrays from the object store are read-only
    return latents.view(torch.bfloat16) if chunk.bfloat16 else latents

"""One rank of the DiT group: a world in a process. Every rank gets the same calls; rank 0 hands the
latents on."""

import logging
import time

import numpy as np
import torch
from torch import Tensor

from actors.records import LatentChunk, StepOrder, StepReply
from actors.worker import Worker, settle
from configs.choice import WeightChoice
from models.world import World, WorldParts, WorldState

logger = logging.getLogger(__name__)


class DitWorker(Worker):
    """The transformer's rank ``rank`` of ``size``."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        self._world: World | None = None

    def join(self, init_method: str) -> None:
        """Meet the other ranks and build the world on this group."""
        super().join(init_method)
        parts = WorldParts(
            self.checkpoint.transformer(self.device, self.dtype),
            self.checkpoint.control_embeddings(),
            self.checkpoint.streaming,
            engine=self.checkpoint.engine,
        )
        self._world = World(parts, group=self.group)
        settle()

    def reset(self, seed: int, prompt: str, embedding: np.ndarray) -> None:
        """Begin a new stream from the prompt's start clip. embedding: as TextWorker makes it."""
        start = self.checkpoint.start_latents(prompt)
        self.world.reset(seed, torch.from_numpy(embedding.copy()), start)

    def set_prompt(self, embedding: np.ndarray) -> None:
        """Go on with another text."""
        self.world.set_prompt(torch.from_numpy(embedding.copy()))

    def step(self, order: StepOrder) -> tuple[LatentChunk | None, StepReply]:
        """One outer step. The latents and the state to go on from come from rank 0 only.

        Refuses a step that is not the next one: a repeated or lost call must never bend the stream.
        """
        started = time.monotonic()
        if order.index != self.world.index:
            raise RuntimeError(
                f"step {order.index} was asked of a world that stands at {self.world.index}"
            )
        emission = self.world.step(order.labels, order.cursor)
        chunk = state = None
        if self.rank == 0:
            latents, bfloat16 = pack(emission.latents)
            chunk, state = LatentChunk(order.index, latents, bfloat16), self.world.state()
        ended = time.monotonic()
        logger.debug("step %d, %s: %.1f ms", order.index, order.labels, 1000 * (ended - started))
        return chunk, StepReply(
            labels=emission.labels,
            cursor=emission.cursors[-1],
            started=started,
            ended=ended,
            state=state,
        )

    def restore(self, state: WorldState) -> None:
        """Go on from a committed state, as if nothing had happened."""
        self.world.load_state(state)

    @property
    def world(self) -> World:
        assert self._world is not None, "join comes first"
        return self._world


def pack(latents: Tensor) -> tuple[np.ndarray, bool]:
    """Latents as a CPU array; bfloat16, which numpy lacks, as int16 bit patterns."""
    latents = latents.detach().cpu().contiguous()
    if latents.dtype == torch.bfloat16:
        return latents.view(torch.int16).numpy(), True
    return latents.numpy(), False

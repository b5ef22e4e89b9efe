"""One rank of the DiT group: the worlds of all sessions, on one set of weights. Every rank gets the
same calls; rank 0 hands the latents on."""

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
    """The transformer's rank ``rank`` of ``size``. Worlds go by the number of their session."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        super().__init__(weights, rank, size)
        self._blank: World | None = None  # with all that worlds of these weights share
        self._worlds: dict[int, World] = {}

    def join(self, init_method: str) -> None:
        """Meet the other ranks and prepare for worlds on this group."""
        super().join(init_method)
        parts = WorldParts(
            self.checkpoint.transformer(self.device, self.dtype),
            self.checkpoint.control_embeddings(),
            self.checkpoint.streaming,
            engine=self.checkpoint.engine,
        )
        self._blank = World(parts, group=self.group)
        settle()

    def reset(self, world: int, seed: int, prompt: str, embedding: np.ndarray) -> None:
        """Begin a new stream from the prompt's start clip. embedding: as TextWorker makes it."""
        start = self.checkpoint.start_latents(prompt)
        self._new(world).reset(seed, torch.from_numpy(embedding.copy()), start)

    def set_prompt(self, world: int, embedding: np.ndarray) -> None:
        """Go on with another text."""
        self._worlds[world].set_prompt(torch.from_numpy(embedding.copy()))

    def step(self, number: int, order: StepOrder) -> tuple[LatentChunk | None, StepReply]:
        """One outer step. The latents and the state to go on from come from rank 0 only.

        Refuses a step that is not the next one: a repeated or lost call must never bend the stream.
        """
        started, busy, world = time.monotonic(), time.process_time(), self._worlds[number]
        if order.index != world.index:
            raise RuntimeError(
                f"step {order.index} was asked of a world that stands at {world.index}"
            )
        emission = world.step(order.labels, order.cursor)
        chunk = state = None
        if self.rank == 0:
            latents, bfloat16 = pack(emission.latents)
            chunk, state = LatentChunk(order.index, latents, bfloat16), world.state()
        ended = time.monotonic()
        took = 1000 * (ended - started)
        logger.debug("world %d, step %d, %s: %.1f ms", number, order.index, order.labels, took)
        return chunk, StepReply(
            labels=emission.labels,
            cursor=emission.cursors[-1],
            started=started,
            ended=ended,
            processors=time.process_time() - busy,
            state=state,
        )

    def restore(self, world: int, state: WorldState) -> None:
        """Go on from a committed state, as if nothing had happened."""
        self._new(world).load_state(state)

    def forget(self, world: int) -> None:
        """Give a world's memory back."""
        self._worlds.pop(world, None)

    def _new(self, number: int) -> World:
        assert self._blank is not None, "join comes first"
        self._worlds[number] = world = self._blank.branch()
        return world


def pack(latents: Tensor) -> tuple[np.ndarray, bool]:
    """Latents as a CPU array; bfloat16, which numpy lacks, as int16 bit patterns."""
    latents = latents.detach().cpu().contiguous()
    if latents.dtype == torch.bfloat16:
        return latents.view(torch.int16).numpy(), True
    return latents.numpy(), False

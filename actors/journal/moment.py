"""A moment of a live session as a snapshot, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from actors.dit import pack
from actors.records import LatentChunk, Memory
from actors.vae import unpack
from models.checkpoint import Checkpoint
from models.snapshot import REPLAY, Snapshot
from models.world import WorldState


@dataclass(frozen=True)
class Moment:
    """What the launcher holds of a world between two steps.

    memory: that of a decoder which has the whole width, else None. chunks: the last ones that left
    the window, from which any decoder's memory can be rebuilt. frames uint8 [n, H, W, 3]: what the
    last step showed.
    """

    state: WorldState
    memory: Memory | None
    chunks: tuple[LatentChunk, ...]
    frames: np.ndarray

    @property
    def index(self) -> int:
        """Latents made since the reset."""
        return self.state.index

    def snapshot(
        self,
        checkpoint: Checkpoint,
        labels: Sequence[str],
        prompts: Sequence[tuple[int, str]],
    ) -> Snapshot:
        """With what steered the world until now: a label for each latent, and (latent, text)."""
        latents: list[Tensor] = [each for chunk in self.chunks for each in unpack(chunk)]
        whole = len(latents) >= min(REPLAY, self.index)
        memory = {} if self.memory is None else self.memory
        return Snapshot(
            state=self.state,
            settings=checkpoint.streaming,
            guidance=checkpoint.streaming.served_guidance,
            labels=tuple(labels),
            prompts=tuple(prompts),
            frames=self.frames,
            memory={name: _short(torch.from_numpy(a.copy())) for name, a in memory.items()},
            latents=tuple(latents[-REPLAY:]) if whole else (),
        )

    @staticmethod
    def of(snapshot: Snapshot) -> "Moment":
        """To go on from in a new session, whose cursors and prompts are counted from zero."""
        state = snapshot.state
        first = state.index - len(snapshot.latents)
        memory = {name: tensor.float().numpy() for name, tensor in snapshot.memory.items()}
        return Moment(
            state=replace(state, cursors=(0,) * len(state.cursors), prompt_version=0),
            memory=memory or None,
            chunks=tuple(
                LatentChunk(first + number, *pack(latent[None]))
                for number, latent in enumerate(snapshot.latents)
            ),
            frames=snapshot.frames,
        )


def _short(tensor: Tensor) -> Tensor:
    """In bfloat16, at half the size, where that is exact: what a decoder in bfloat16 remembers."""
    half = tensor.bfloat16()
    return half if torch.equal(half.float(), tensor) else tensor

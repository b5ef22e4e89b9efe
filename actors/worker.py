"""What every worker process of a gang has: weights, a device, and a group of peers."""

import gc
import os
import socket
import time

import torch

from actors.head import log_to_ray
from actors.records import Identity
from configs.choice import WeightChoice
from models.checkpoint import Checkpoint
from models.device import pick_device, use_threads
from models.parallel import SINGLE, SequenceGroup

# A peer that is lost is an error at once, and one that stands still is found by the session. Here
# the time in which nobody ran (a closed laptop) would count, so it must not be short.
GROUP_SECONDS = 3600.0


class Worker:
    """Rank ``rank`` of ``size``. Calls come one after the other, in the order they were sent."""

    def __init__(self, weights: WeightChoice, rank: int, size: int) -> None:
        log_to_ray()
        self.rank, self.size = rank, size
        self.device = pick_device()
        self.group = SINGLE
        if self.device.type == "cpu":
            use_threads(1)
        self._weights = weights
        self._checkpoint: Checkpoint | None = None

    def identity(self) -> Identity:
        """Where this worker lives."""
        node, _ = _here()
        return Identity(os.getpid(), socket.gethostname(), node, time.monotonic())

    def rendezvous(self) -> str:
        """An address on this node where a group can meet: free a moment ago."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        return f"tcp://{_here()[1]}:{port}"

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights, opened when first needed: what is wrong with them is then an answer, not a
        dead process."""
        if self._checkpoint is None:
            self._checkpoint = Checkpoint.open(self._weights)
        return self._checkpoint

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in, a tiny decoder excepted."""
        return self.checkpoint.number_format(self.device)

    def join(self, init_method: str) -> None:
        """Meet the other ranks of the group."""
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        self.group = SequenceGroup.join(
            self.rank,
            self.size,
            init_method=init_method,
            backend=backend,
            device=str(self.device),
            timeout_seconds=GROUP_SECONDS,
        )


def _here() -> tuple[str, str]:
    # in the worker's own process, never where this class is only named (see membership.py)
    from actors.membership import here

    return here()


def settle() -> None:
    """Take what has been loaded out of the garbage collector's rounds: a full one over it costs
    more than a frame's slot, and would come in the middle of a step."""
    gc.collect()
    gc.freeze()

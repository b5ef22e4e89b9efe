"""Who works where: how many workers of each group, and on which devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from configs.errors import UserError

USUAL_VAE_WORKERS: Final = 3  # of the published launcher


@dataclass(frozen=True)
class Layout:
    """Who works where: ``dit`` ranks and ``vae`` workers of each of the ``replicas``, and ``gpus``
    devices for all of them (0 = CPU workers)."""

    dit: int = 1
    vae: int = 1
    gpus: int = 0
    devices: tuple[str, ...] = ()
    replicas: int = 1

    @staticmethod
    def plan(dit: int | None, vae: int | None, pool: Sequence[str], replicas: int = 1) -> "Layout":
        """Fit the wanted numbers (None = as the machine allows) to the GPUs in ``pool``; each of
        the ``replicas`` has as many.

        No GPU: CPU workers, one each unless asked otherwise. One GPU: both groups share it. Else
        one GPU per worker, the transformer's first. Raises UserError when there are too few.
        """
        if not pool:
            return Layout(dit or 1, 1 if vae is None else vae, replicas=replicas)
        if len(pool) == 1 and dit in (None, 1) and vae in (None, 0, 1) and replicas == 1:
            return Layout(1, 1 if vae is None else vae, 1, tuple(pool))
        dit = dit or 1
        share = len(pool) // replicas
        vae = min(USUAL_VAE_WORKERS, max(1, share - dit)) if vae is None else vae
        needed = replicas * (dit + vae)
        if needed > len(pool):
            times = f" in {replicas} replicas" if replicas > 1 else ""
            raise UserError(
                f"NUM_GPUS_DIT={dit} and NUM_GPUS_VAE={vae}{times} need {needed} GPUs, {len(pool)} are "
                f"visible ({', '.join(pool)}); ask for fewer, or widen CUDA_VISIBLE_DEVICES"
            )
        return Layout(dit, vae, needed, tuple(pool[:needed]), replicas)

    @property
    def workers(self) -> int:
        """Of the DiT and VAE groups of all replicas."""
        return self.replicas * (self.dit + self.vae)

    @property
    def text(self) -> int | None:
        """The place whose GPU the text encoder shares: the last one. None: it runs on the CPU, in
        nobody's place."""
        return self.dit + self.vae - 1 if self.gpus else None

    @property
    def shared(self) -> bool:
        """One GPU serves both groups of the only replica."""
        return 0 < self.gpus < self.workers

    def bundles(self) -> list[dict[str, float]]:
        """What to reserve, one bundle per worker: of each replica the DiT ranks, then the VAE
        workers."""
        kind = "GPU" if self.gpus else "CPU"
        return [{kind: 0.5 if self.shared else 1.0}] * self.workers

    def __str__(self) -> str:
        return self._one() if self.replicas == 1 else f"{self.replicas} replicas of {self._one()}"

    def _one(self) -> str:
        if not self.gpus:
            return f"DiT {self.dit} + VAE {self.vae} CPU worker{'s' if self.dit + self.vae > 2 else ''}"
        if self.shared:
            return f"DiT {self.dit} + VAE {self.vae} sharing one GPU"
        return f"DiT GPU 0..{self.dit - 1}, VAE GPU {self.dit}..{self.dit + self.vae - 1}"


def visible_gpus(pool: Sequence[str] | None) -> tuple[str, ...]:
    """The GPUs there are to take from; ``pool`` (CUDA_VISIBLE_DEVICES) limits them. Raises
    UserError for a pool that names absent ones: to run on the CPU instead, unasked, would be a slow
    surprise."""
    if pool is not None and not pool:
        return ()
    # of the pool, which CUDA reads too
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if pool is not None and present < len(pool):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={','.join(pool)}: {present} of these GPUs can be used here; correct"
            " it, unset it, or set it to nothing for CPU workers"
        )
    return tuple(pool or [str(number) for number in range(present)])

"""Groups of ranks that work on one latent together: the only door to torch.distributed.

A rank is a value that is passed along; a group of one costs nothing and touches no process group.
Every group owns its store and process group, so it can be closed and joined again with a new
`init_method` while the process lives on."""

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor

from configs.errors import UserError


class SequenceGroup:
    """`size` ranks, this process being `rank`. Every method is called by every rank with the same
    arguments in the same order. Errors of a lost or stuck peer arrive as RuntimeError, at the
    latest after the group's timeout."""

    def __init__(
        self,
        rank: int,
        size: int,
        process_group: Any = None,
        attention: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """attention: a backend's own attention over all ranks' sequences, [B, H, n, d] with the
        same n everywhere.

        leave: called by `close`; by default the process group is shut down.
        """
        self.rank = rank
        self.size = size
        self.attention = attention
        self._group = process_group
        self._leave = leave

    @staticmethod
    def single() -> "SequenceGroup":
        """Return the group of one: every exchange hands its argument back."""
        return SequenceGroup(0, 1)

    @staticmethod
    def join(
        rank: int,
        size: int,
        *,
        init_method: str,
        backend: str = "gloo",
        device: str = "cpu",
        timeout_seconds: float = 20.0,
    ) -> "SequenceGroup":
        """Meet the other ranks at `init_method` and return the group; blocks until all are there or
        time is up.

        init_method: ``file:///path`` (a fresh path for every group) or ``tcp://host:port`` (rank 0
        listens there). backend: ``gloo`` (CPU), ``nccl`` (CUDA, `device` is then this rank's
        "cuda:N") or ``xfuser`` (NCCL with xDiT's unified sequence parallel attention; the optional
        package).
        """
        if not 0 <= rank < size:
            raise UserError(f"rank must be between 0 and {size - 1}, got {rank}")
        if size == 1:
            return SequenceGroup.single()
        timeout = timedelta(seconds=timeout_seconds)
        if backend == "xfuser":
            return _join_xfuser(rank, size, init_method, torch.device(device), timeout)
        store, same_host = _store(init_method, rank, size, timeout)
        if backend == "gloo":
            gloo = dist.ProcessGroupGloo
            options = gloo._Options()  # type: ignore[attr-defined]  # no public name for it
            # Ranks of one host talk over loopback only, so that no stranger can reach them.
            options._devices = [
                gloo.create_device("127.0.0.1") if same_host else gloo.create_default_device()
            ]
            options._timeout = timeout
            return SequenceGroup(rank, size, gloo(store, rank, size, options))
        if backend == "nccl":
            torch.cuda.set_device(torch.device(device))
            nccl_options = dist.ProcessGroupNCCL.Options()
            nccl_options._timeout = timeout
            return SequenceGroup(rank, size, dist.ProcessGroupNCCL(store, rank, size, nccl_options))
        raise UserError(f"group backend {backend!a}: expected gloo, nccl or xfuser")

    def close(self) -> None:
        """Leave the group. Safe to call twice, and after a peer has died."""
        group, self._group = self._group, None
        if group is not None:
            (self._leave or group.shutdown)()

    def slice_bounds(self, n: int, rank: int | None = None) -> tuple[int, int]:
        """Return [start, stop) of a rank's share of n columns; shares differ by at most one, larger
        ones first."""
        share, larger = divmod(n, self.size)
        rank = self.rank if rank is None else rank
        start = rank * share + min(rank, larger)
        return start, start + share + (rank < larger)

    def share_sizes(self, n: int) -> list[int]:
        """Return every rank's number of columns out of n, in rank order."""
        return [
            stop - start
            for start, stop in (self.slice_bounds(n, rank) for rank in range(self.size))
        ]

    def all_to_all(
        self,
        x: Tensor,
        scatter_dim: int,
        gather_dim: int,
        *,
        scatter_sizes: Sequence[int] | None = None,
        gather_sizes: Sequence[int] | None = None,
    ) -> Tensor:
        """Split x along `scatter_dim`, one part per rank, and join what the others sent along
        `gather_dim`.

        scatter_sizes: the parts' sizes (equal shares by default). gather_sizes: every rank's own
        extent along `gather_dim` (all as here by default).
        """
        if self.size == 1:
            return x
        scatter_sizes = scatter_sizes or self.share_sizes(x.shape[scatter_dim])
        gather_sizes = gather_sizes or [x.shape[gather_dim]] * self.size
        mine = list(x.shape)
        mine[scatter_dim] = scatter_sizes[self.rank]
        shapes = [[*mine] for _ in range(self.size)]
        for shape, extent in zip(shapes, gather_sizes, strict=True):
            shape[gather_dim] = extent
        parts = self._exchange(list(x.split(list(scatter_sizes), scatter_dim)), shapes)
        return torch.cat(parts, gather_dim)

    def all_gather(self, x: Tensor, dim: int, sizes: Sequence[int] | None = None) -> Tensor:
        """Join every rank's x along `dim`. Extents may differ: they are asked for unless `sizes`
        gives them."""
        if self.size == 1:
            return x
        dim %= x.dim()
        if sizes is None:
            extent = torch.tensor([x.shape[dim]], device=x.device)
            sizes = [
                int(n) for n in torch.cat(self._exchange([extent] * self.size, [[1]] * self.size))
            ]
        shapes = [[*x.shape[:dim], extent, *x.shape[dim + 1 :]] for extent in sizes]
        return torch.cat(self._exchange([x] * self.size, shapes), dim)

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Return the sum of every rank's x, the same bytes on every rank."""
        if self.size == 1:
            return x
        total = x.clone(memory_format=torch.contiguous_format)
        self._live().allreduce(total, dist.ReduceOp.SUM).wait()
        return total

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        """Return rank `source`'s x on every rank (all pass a tensor of that shape and dtype)."""
        if self.size == 1:
            return x
        value = x.clone(memory_format=torch.contiguous_format)
        self._live().broadcast(value, source).wait()
        return value

    def halo(self, x: Tensor, dim: int, width: int = 1) -> tuple[Tensor, Tensor]:
        """Return the neighbours' edge columns along `dim`: (left neighbour's last, right
        neighbour's first) `width`.

        x may be wider on one rank than on another, but holds at least `width` columns. Outer edges
        are zeros."""
        first, last = x.narrow(dim, 0, width), x.narrow(dim, x.shape[dim] - width, width)
        if self.size == 1:
            return torch.zeros_like(first), torch.zeros_like(last)
        empty = x.new_empty(0)
        outgoing, shapes = [empty] * self.size, [[0]] * self.size
        if self.rank > 0:
            outgoing[self.rank - 1], shapes[self.rank - 1] = first, list(first.shape)
        if self.rank < self.size - 1:
            outgoing[self.rank + 1], shapes[self.rank + 1] = last, list(last.shape)
        incoming = self._exchange(outgoing, shapes)
        left = incoming[self.rank - 1] if self.rank > 0 else torch.zeros_like(first)
        right = incoming[self.rank + 1] if self.rank < self.size - 1 else torch.zeros_like(last)
        return left, right

    def _exchange(self, outgoing: list[Tensor], shapes: list[list[int]]) -> list[Tensor]:
        """Send outgoing[r] to every rank r and return what each sent, of the given shapes: one
        collective."""
        out_sizes = [int(torch.Size(shape).numel()) for shape in shapes]
        sent = torch.cat([part.reshape(-1) for part in outgoing])
        received = sent.new_empty(sum(out_sizes))
        in_sizes = [part.numel() for part in outgoing]
        self._live().alltoall_base(
            received, sent, out_sizes, in_sizes, dist.AllToAllOptions()
        ).wait()
        return [
            part.view(shape) for part, shape in zip(received.split(out_sizes), shapes, strict=True)
        ]

    def _live(self) -> Any:
        if self._group is None:
            raise RuntimeError("this SequenceGroup is closed; join a new one")
        return self._group


SINGLE: Final = SequenceGroup.single()  # a rank of its own, for who is given no group


def _store(init_method: str, rank: int, size: int, timeout: timedelta) -> tuple["dist.Store", bool]:
    """Return the rendezvous store of `init_method`, and whether all ranks are on this host."""
    url = urlsplit(init_method)
    if url.scheme == "file" and url.path and Path(url.path).parent.is_dir():
        store: dist.Store = dist.FileStore(url.path, size)
        store.set_timeout(timeout)
        return store, True
    if url.scheme == "tcp" and url.hostname and url.port:
        store = _tcp_store(url.hostname, url.port, rank, size, timeout)
        return store, url.hostname in ("127.0.0.1", "localhost")
    raise UserError(
        f"group init method {init_method!a}: expected file:///folder/that/exists/name or tcp://host:port"
    )


def _tcp_store(host: str, port: int, rank: int, size: int, timeout: timedelta) -> "dist.Store":
    """Rank 0 listens on the named address alone; the store by itself would listen on all of the
    machine's."""
    if rank:
        return dist.TCPStore(host, port, size, is_master=False, timeout=timeout)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"group init method tcp://{host}:{port}: cannot listen there ({error.strerror})"
        ) from error
    return dist.TCPStore(
        host, port, size, is_master=True, timeout=timeout, master_listen_fd=listener.detach()
    )


def _join_xfuser(
    rank: int, size: int, init_method: str, device: torch.device, timeout: timedelta
) -> SequenceGroup:
    """Join through xDiT: its groups (Ulysses over all ranks) and its USP attention.

    Written against xfuser 0.7.0 and not yet run on CUDA hardware. xfuser cannot be imported without
    an accelerator, and it keeps one global set of groups, so a process holds one such group at a
    time.
    """
    try:
        # optional, and not importable without an accelerator
        from xfuser.core.distributed import (
            get_sp_group,
            init_distributed_environment,
            initialize_model_parallel,
            initialize_runtime_state,
        )
        from xfuser.core.distributed.parallel_state import (
            destroy_distributed_environment,
            destroy_model_parallel,
        )
        from xfuser.model_executor.layers.usp import USP
    except ImportError as error:
        raise UserError(
            f"group backend xfuser cannot be imported ({error}); install the extra [cuda]"
        ) from error

    def leave() -> None:
        destroy_model_parallel()
        destroy_distributed_environment()

    torch.cuda.set_device(device)
    # Initialised here rather than by xfuser, which knows no timeout.
    dist.init_process_group("nccl", init_method, timeout, world_size=size, rank=rank)
    init_distributed_environment(size, rank, local_rank=device.index or 0, backend="nccl")
    initialize_model_parallel(sequence_parallel_degree=size, ulysses_degree=size, ring_degree=1)
    initialize_runtime_state()
    return SequenceGroup(rank, size, get_sp_group().device_group, attention=USP, leave=leave)

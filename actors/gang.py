"""A gang: the workers of one group, which start as one, get the same calls, and are torn down as
one."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Coroutine, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import psutil

from actors.cluster import Cluster
from actors.owned import owned
from actors.records import Identity
from actors.spare import Spare
from actors.worker import Worker
from configs.choice import WeightChoice
from configs.errors import UserError

LOAD_SECONDS: Final = 900.0  # 8 GB of weights from a slow disk
STOPPED_SECONDS: Final = 1.5  # after which a process that was stopped is given up
# between two looks whether one is; what lasts longer was time in which nobody ran
LOOK_SECONDS: Final = 0.25
END_SECONDS: Final = 5.0
WORKER_SHARE: Final = 0.9  # of a place
TEXT_SHARE: Final = 0.1


logger = logging.getLogger(__name__)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reference(Protocol[T_co]):
    """A value that a worker makes: to be awaited, or handed to another worker as it is."""

    def __await__(self) -> Generator[Any, None, T_co]: ...


class Gang:
    """``name`` is for people; ``places`` are the reserved places of its workers (None = takes
    nothing), of which they take ``share``: the text encoder is used rarely and lives beside another
    worker. ``spare``: where the gang is one worker, keep another ready to take its place, which
    starts when it gets this turn."""

    def __init__(
        self,
        name: str,
        worker: type[Worker],
        weights: WeightChoice,
        cluster: Cluster,
        places: Sequence[int | None],
        share: float = WORKER_SHARE,
        spare: asyncio.Lock | None = None,
    ) -> None:
        self.name = name
        self.alive = False
        self.nodes: list[str] = []  # Ray's name of each worker's node
        self.clock_offset = 0.0  # add to rank 0's clock to get ours; 0 on the same host
        self._worker, self._weights, self._cluster = worker, weights, cluster
        self._places, self._share = places, share
        self._actors: list[Any] = []
        self._processes: list[psutil.Process] = []
        self._generation = 0
        self._spare = None
        if spare is not None and len(places) == 1:
            self._spare = Spare(self._spawn_spare, cluster.member.end, spare)

    async def start(self) -> None:
        """Start every worker, load, and let them meet. Raises what a worker raised, UserError
        included; then none of them is left."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._load()
        except BaseException as error:
            await self._end_workers()
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, UserError) else error) from None
        self.alive = True
        if self._spare is not None:
            self._spare.prepare()
        logger.info("%s: %s", self.name, self.pids)

    async def _load(self) -> None:
        self._generation += 1
        spare = self._spare.take() if self._spare is not None else None
        self._actors = (
            [spare]
            if spare is not None
            # in a thread: a cluster that is about to be found dead lets this wait
            else [await asyncio.to_thread(self._spawn, rank) for rank in range(self.size)]
        )
        here = socket.gethostname()
        identities: list[Identity] = await asyncio.gather(*self.ask("identity"))
        self.nodes = [identity.node for identity in identities]
        self._processes = list(
            _processes(identity.pid for identity in identities if identity.host == here)
        )
        if identities[0].host != here:
            asked = time.monotonic()
            clock = (await self.ask("identity")[0]).clock
            self.clock_offset = (asked + time.monotonic()) / 2 - clock
        joined = gathered(self.ask("join", await self._meeting(identities, here)))
        await self._unless_stopped(joined)

    async def _unless_stopped(self, joined: "asyncio.Future[list[None]]") -> None:
        """Wait for the workers to load. A stopped one would never come: RuntimeError."""
        stopped = 0.0
        while not joined.done():
            await asyncio.wait({joined}, timeout=LOOK_SECONDS)
            stopped = stopped + LOOK_SECONDS if self.stopped else 0.0
            if stopped >= STOPPED_SECONDS:
                raise RuntimeError(f"a worker process stands still for {stopped} s while it loads")
        joined.result()

    def _spawn(self, rank: int, share: float | None = None) -> Any:
        return self._cluster.member.spawn(
            *(self._worker, self._places[rank], self._share if share is None else share),
            weights=self._weights,
            rank=rank,
            size=self.size,
        )

    def _spawn_spare(self) -> Any:
        return self._spawn(0, share=0.0)  # it counts for nothing until it is needed

    def ask(self, method: str, *arguments: Any, returns: int = 1) -> list[Any]:
        """Send the same call to every worker; returns its reply references, by rank."""
        return [
            getattr(actor, method).options(num_returns=returns).remote(*arguments)
            for actor in self._actors
        ]

    @property
    def logs(self) -> Path:
        """Where the workers' standard error is, if their cluster is our own."""
        return self._cluster.logs

    @property
    def size(self) -> int:
        return len(self._places)

    @property
    def stopped(self) -> bool:
        """A worker's process on this host was stopped (SIGSTOP)."""
        return any(map(_stopped, self._processes))

    @property
    def broken(self) -> bool:
        """A worker's process on this host is gone, though nobody ended it."""
        return self.alive and not all(_lives(process) for process in self._processes)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the workers on this host, by name."""
        return {f"{self.name} {rank}": process.pid for rank, process in enumerate(self._processes)}

    def peak_memory(self) -> dict[str, float]:
        """The most resident memory of each worker on this host so far, MB."""
        return {name: peak for name, pid in self.pids.items() if (peak := peak_memory_of(pid))}

    async def replace(self) -> None:
        """End every worker, and start again. Raises as `start`."""
        await self._end_workers()
        await self.start()

    async def end(self) -> None:
        """Kill every worker, stopped or not, and wait until their processes are gone."""
        if self._spare is not None:
            await self._spare.end()
        await self._end_workers()

    async def leave(self) -> None:
        """Let the workers be: they go with their cluster."""
        if self._spare is not None:
            await self._spare.forget()

    async def _end_workers(self) -> None:
        self.alive = False
        actors, self._actors = self._actors, []
        for actor in [] if self._cluster.gone else actors:
            await asyncio.to_thread(self._cluster.member.end, actor)
        for process in self._processes:
            with contextlib.suppress(psutil.Error):  # a stopped process takes no message, only this
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, self._processes, END_SECONDS)

    async def _meeting(self, identities: Sequence[Any], here: str) -> str:
        """Where the workers meet: a fresh file when all are on one node of this host, else rank 0's
        address."""
        if self.size == 1 or {(each.host, each.node) for each in identities} == {
            (here, identities[0].node)
        }:
            return f"file://{self._cluster.folder}/{self.name}-{self._generation}"
        return str(await self.ask("rendezvous")[0])


def gathered(references: Sequence[Reference[T]]) -> "asyncio.Future[list[T]]":
    """All values, in order; started as by `quietly`."""
    return quietly(_all(references))


def quietly(work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
    """Start ``work``. An error that nobody waits for any more (a reset overtook it) makes no
    noise."""
    future = asyncio.ensure_future(work)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _all(references: Sequence[Reference[T]]) -> list[T]:
    return list(map(owned, await asyncio.gather(*references)))


def _processes(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_STOPPED
    return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def peak_memory_of(pid: int) -> float:
    """The most resident memory a process of this host ever had, MB; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0

"""The groups of one run and their cluster: their life as a whole."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from actors.cluster import Cluster
from actors.dit import DitWorker
from actors.gang import TEXT_SHARE, Gang
from actors.layout import Layout
from actors.repair import ClusterLost, Fault, T, line
from actors.replica import Replica
from actors.source import Say
from actors.tasks import cancel, together
from actors.text import TextWorker
from actors.vae import VaeWorker
from configs.choice import WeightChoice
from configs.errors import UserError

ATTEMPTS: Final = 3  # to start; a busy machine needs more than one now and then


class Groups:
    """The text worker and the replicas, each a DiT and a VAE group, on one cluster. ``address``
    joins one that exists; ``keep_logs`` is where the logs of our own go when it ends."""

    def __init__(
        self,
        weights: WeightChoice,
        layout: Layout,
        address: str | None,
        say: Say,
        keep_logs: Path | None = None,
    ) -> None:
        self._weights, self._layout, self._address = weights, layout, address
        self._keep_logs = keep_logs
        self._say = say
        self._cluster: Cluster | None = None
        self.replicas = [Replica() for _ in range(layout.replicas)]
        self._peaks: dict[str, float] = {}
        self._gangs: tuple[Gang, ...] = ()
        self._whole = asyncio.Event()  # all workers have loaded

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start Ray, reserve, and load all workers; what dies meanwhile, or does not come up on a
        busy machine, gets further attempts.

        Raises UserError: the cluster cannot be joined or has no room, weights that do not load;
        RuntimeError: the last attempt failed too.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._open()
                break
            except (Fault, RuntimeError) as error:
                await self.close()
                if attempt == ATTEMPTS:
                    raise RuntimeError(
                        f"starting failed {ATTEMPTS} times, the last time: {error}; the usual"
                        " causes are too little memory and a machine that is too busy"
                    ) from error
                self._say("cluster", 5, f"{error}; once more")
            except BaseException:  # who asked for it is gone, or the weights do not load
                await self.close()
                raise
        self._whole.set()

    async def _open(self) -> None:
        self._say("cluster", 5, f"joining {self._address}" if self._address else "starting Ray")
        cluster = await (
            Cluster.attach(self._address)
            if self._address
            else Cluster.start(self._layout, self._keep_logs, self._say_cluster)
        )
        self._cluster, self._layout = cluster, cluster.fit(self._layout)
        token = f", token in {cluster.token}" if cluster.own else ""
        self._say("places", 30, f"Ray at {cluster.address}{token}; reserving {self._layout}")
        await self.unless_lost(cluster.reserve(self._layout))
        self._say("models", 35, f"loading the models: {self._layout}")
        self._make(cluster)
        try:
            await self.unless_lost(self._start_all())
        except Fault as fault:
            if isinstance(fault.__cause__, UserError):
                raise fault.__cause__ from None
            raise

    def _say_cluster(self, line: str) -> None:
        self._say("cluster", 5, line)

    def _make(self, cluster: Cluster) -> None:
        layout, weights = self._layout, self._weights
        spare = None if layout.gpus else asyncio.Lock()  # a share of a GPU is for who works
        self.text = Gang("text", TextWorker, weights, cluster, [layout.text], TEXT_SHARE)
        for number, replica in enumerate(self.replicas):
            name, first = f"{number}." if number else "", number * (layout.dit + layout.vae)
            middle = first + layout.dit
            dit, vae = range(first, middle), range(middle, middle + layout.vae)
            replica.man(
                Gang(f"{name}dit", DitWorker, weights, cluster, dit, spare=spare),
                Gang(f"{name}vae", VaeWorker, weights, cluster, vae, spare=spare),
            )
        pairs = ((replica.dit, replica.vae) for replica in self.replicas)
        self._gangs = (self.text, *itertools.chain(*pairs))

    async def mend(self, fault: Fault) -> None:
        """Replace what broke: a lost cluster with all workers, else the fault's group and every
        other with a dead process. Raises Fault when something breaks meanwhile."""
        self._note_memory()
        if self.lost:
            self._whole.clear()
            await self.close()
            await self.open()
            return
        await self.unless_lost(self._replace_broken(fault.gang))

    async def text_worker(self) -> Gang:
        """The text worker; where the cluster is gone, the one that comes with the next."""
        if self.lost:
            self._whole.clear()
        await self._whole.wait()
        return self.text

    async def replace_text(self, hung: Gang) -> None:
        """End the text worker, whatever it does, and start another, unless a new cluster brought
        one. Raises Fault."""
        if await self.text_worker() is hung:
            await self.unless_lost(self._again(hung))

    async def unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives. Raises ClusterLost as soon as the cluster is gone."""
        assert self._cluster is not None
        task, ended = asyncio.create_task(work), asyncio.create_task(self._cluster.ended())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ClusterLost(ended.result())
            return task.result()
        finally:
            await cancel(task, ended)

    @property
    def lost(self) -> bool:
        """The cluster is gone, or not there yet."""
        return self._cluster is None or self._cluster.gone

    async def close(self) -> None:
        """End everything. Idempotent."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            self._note_memory()
            ends = [gang.leave() if cluster.own else gang.end() for gang in self._gangs]
            await asyncio.gather(*ends, return_exceptions=True)
            await cluster.close()

    async def watch(self) -> None:
        """Raise ClusterLost when the cluster ends by itself."""
        assert self._cluster is not None
        raise ClusterLost(await self._cluster.ended())

    async def _start_all(self) -> None:
        """Start every group, all at once."""
        assert self._cluster is not None
        starts = [asyncio.create_task(self._start(gang, gang.start)) for gang in self._gangs]
        try:
            if self._cluster.own:  # it takes a second of a core: not while all of them load
                await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
                starts.append(asyncio.create_task(self._check_strangers(self._cluster)))
            await asyncio.gather(*starts)
        finally:
            await cancel(*starts)

    async def _replace_broken(self, broken: Gang | None) -> None:
        """Start anew what broke or does not live. The text worker is in others' hands."""
        gangs = [g for g in self._gangs[1:] if g is broken or g.broken or not g.alive]
        await together(*map(self._again, gangs))

    async def _again(self, gang: Gang) -> None:
        await self._start(gang, gang.replace)

    async def _start(self, gang: Gang, how: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await how()
        except Exception as error:
            raise Fault(gang, line(error, gang.logs)) from error
        loaded = sum(gang.alive for gang in self._gangs)
        self._say("models", 35 + 50 * loaded / len(self._gangs), f"{gang.name} ready")

    async def _check_strangers(self, cluster: Cluster) -> None:
        if not await cluster.refuses_strangers():
            raise RuntimeError(
                "the Ray head let a connection without our token in, or did not answer: not safe"
            )

    # -- facts -------------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the workers on this host, by name."""
        return {name: pid for gang in self._gangs for name, pid in gang.pids.items()}

    @property
    def nodes(self) -> list[str]:
        """Ray's names of the nodes that the workers are on."""
        return [node for gang in self._gangs for node in gang.nodes]

    @property
    def peak_memory(self) -> dict[str, float]:
        """The most resident memory of each worker on this host so far, MB; also after ``close``."""
        self._note_memory()
        return dict(self._peaks)

    def _note_memory(self) -> None:
        for gang in self._gangs:
            for name, megabytes in gang.peak_memory().items():
                self._peaks[name] = max(megabytes, self._peaks.get(name, 0.0))

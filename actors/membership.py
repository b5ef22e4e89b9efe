"""Being a member of a Ray cluster: the one module that imports Ray.

Ray reads how to authenticate when it is imported, so this module is imported only once the run's
secrets are in place (actors/cluster.py), or in a worker, which Ray itself started.
"""

import asyncio
import contextlib
import logging
import os
from typing import Any, Final

import ray
from ray.job_config import JobConfig
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.layout import Layout
from configs.errors import UserError
from configs.load import ROOT

NAMESPACE: Final = "matrix"
PLACE_SECONDS: Final = 30.0


class OwnPackagesOnly(JobConfig):
    """Ray would put the launcher's current folder first on the workers' search path, where a person
    may have packages called models or configs of their own."""

    def _serialize(self) -> Any:
        self._py_driver_sys_path, self._cached_pb = [str(ROOT)], None
        return super()._serialize()


class Membership:
    """This process, joined to the cluster at ``address``, with the places it has reserved."""

    def __init__(self, address: str) -> None:
        """Join. Takes a second; in a thread, for on the main thread Ray takes over signals."""
        self.address = address
        self._places: Any = None
        # Ray hands a class to its head with the first actor, and waits for the answer: from one
        # that is about to be found dead none comes, and Ray ends this process after a minute
        self._kinds: dict[type, Any] = {}
        logging.getLogger("ray").setLevel(logging.ERROR)
        # Ray prints a paragraph on standard output for every worker that ends; we say it in one
        # line, elsewhere.
        ray._private.worker.print_to_stdstream = lambda data, **settings: None
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        ray.init(address=address, namespace=NAMESPACE, job_config=OwnPackagesOnly(), **quiet)

    @property
    def gpus(self) -> int:
        """GPUs of the whole cluster."""
        return int(ray.cluster_resources().get("GPU", 0))

    async def reserve(self, layout: Layout) -> None:
        """Reserve one place per worker. Raises UserError that says what is missing."""
        bundles = layout.bundles()
        self._places = placement_group(bundles, strategy="PACK", name=f"matrix-{os.getpid()}")
        ready = asyncio.ensure_future(_result(self._places.ready()))
        done, _ = await asyncio.wait({ready}, timeout=PLACE_SECONDS)
        if done:
            return ready.result()
        ready.cancel()
        kind, share = next(iter(bundles[0].items()))
        have, free = (
            resources.get(kind, 0)
            for resources in (ray.cluster_resources(), ray.available_resources())
        )
        times = f" in each of {layout.replicas} replicas" if layout.replicas > 1 else ""
        raise UserError(
            f"cluster {self.address}: {share * len(bundles):g} {kind} needed for {layout.dit} DiT"
            f" and {layout.vae} VAE workers{times}, {free:g} of {have:g} are free; ask for fewer workers"
            " or wait until others are done"
        )

    def spawn(self, worker: type, place: int | None, share: float, **options: Any) -> Any:
        """Start an actor of class ``worker`` with a share of a reserved place (None: anywhere,
        taking nothing); returns its handle at once. It is never restarted behind our back."""
        needs: dict[str, Any] = {"num_cpus": 0}
        if place is not None:
            bundle = self._places.bundle_specs[place]
            needs = {
                "num_cpus": share * bundle.get("CPU", 0),
                "num_gpus": share * bundle.get("GPU", 0),
                "scheduling_strategy": PlacementGroupSchedulingStrategy(self._places, place),
            }
        if worker not in self._kinds:
            self._kinds[worker] = ray.remote(worker)
        actor = self._kinds[worker].options(max_restarts=0, max_task_retries=0, **needs)
        return actor.remote(**options)

    def end(self, actor: Any) -> None:
        """Kill an actor's process, whatever it is doing."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(actor, no_restart=True)

    def leave(self, give_back: bool) -> None:
        """Disconnect. give_back: the places too, on a cluster that goes on without us."""
        if self._places is not None and give_back:
            remove_placement_group(self._places)
        ray.shutdown()


def here() -> tuple[str, str]:
    """Of a worker: Ray's name of its node, and the address under which others reach the node."""
    return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()


async def _result(reference: Any) -> None:
    await reference

"""The Ray cluster of one run: a head of our own that nobody else can use or notice, or one that
exists already.

Nothing here ever looks for a cluster by itself: an address is ours or was given (``RAY_ADDRESS`` is
ignored). Ray is imported after the run's token is set, because it reads how to authenticate when it
is imported.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

from actors.head import (
    PORT_OPTIONS,
    RunFolder,
    adopt_secrets,
    free_ports,
    head_command,
    head_environment,
    write_token,
)
from actors.layout import Layout
from configs.errors import UserError
from configs.load import ROOT, child_environment

NAMESPACE: Final = "matrix"
START_SECONDS: Final = 90.0
PLACE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 8.0
# Exit code 0 = came in. A stranger has no token and does not know that one is needed.
STRANGER: Final = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=5)
"""


class Cluster:
    """A connection to Ray. ``folder`` is ours alone and vanishes with the run."""

    def __init__(
        self, address: str, folder: RunFolder, guardian: "asyncio.subprocess.Process | None"
    ) -> None:
        self.address = address
        self._folder = folder
        self._guardian = guardian
        self._places: Any = None

    @property
    def folder(self) -> Path:
        """Files of this run."""
        return self._folder.path

    @property
    def own(self) -> bool:
        """Started by us; it ends with us."""
        return self._guardian is not None

    @property
    def token(self) -> Path:
        """The file that holds this run's token."""
        return self.folder / "token"

    @staticmethod
    async def start(layout: Layout) -> "Cluster":
        """Start a head of our own and connect to it. Cancelling this leaves nothing behind.

        Raises RuntimeError with the head's last words when it does not come up.
        """
        folder = RunFolder()
        write_token(folder.path)
        ports = free_ports(len(PORT_OPTIONS))
        adopt_secrets(folder.path)
        command = head_command(folder.path, ports, layout)
        try:
            guardian = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "actors.guardian", str(folder.path), *command),
                cwd=ROOT,
                env=head_environment(layout),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for the launcher
                pass_fds=(folder.lock,),
            )
        except BaseException:  # a signal, right now
            folder.remove()
            raise
        cluster = Cluster(f"127.0.0.1:{ports[0]}", folder, guardian)
        try:
            await cluster._come_up(guardian)
        except (TimeoutError, ConnectionError) as error:
            await cluster.close()
            silent = isinstance(error, TimeoutError)
            reason = f"no answer within {START_SECONDS:.0f} s" if silent else str(error)
            raise RuntimeError(f"the Ray head did not start: {reason}") from None
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def _come_up(self, guardian: "asyncio.subprocess.Process") -> None:
        assert guardian.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            # while the head starts, on another core
            await asyncio.to_thread(importlib.import_module, "ray")
            said = (await guardian.stdout.readline()).decode(errors="replace").strip()
        if said != "ready":
            raise RuntimeError(f"the Ray head did not start: {said or 'it said nothing'}")
        await self._connect()

    @staticmethod
    async def attach(address: str) -> "Cluster":
        """Connect to the cluster at HOST:PORT, which is left running. Raises UserError if it cannot
        be reached."""
        cluster = Cluster(address, RunFolder(), None)
        try:
            reach(address)
            await cluster._connect()
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            await cluster.close()
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"ray address {address}: no cluster could be joined ({reason}); check the address, and"
                " RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH if it asks for a token"
            ) from None
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def refuses_strangers(self) -> bool:
        """Whether a connection without our token is turned away. Takes a second; run it beside
        other work."""
        environment = {
            name: value
            for name, value in child_environment().items()
            if not name.startswith("RAY_AUTH")
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STRANGER, self.address),
            env={**environment, "RAY_AUTH_MODE": "disabled"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        return process.returncode != 0 and b"InvalidAuthToken" in said

    def fit(self, layout: Layout) -> Layout:
        """The layout on this cluster: one that we joined offers its own GPUs, whatever this machine
        has."""
        if self.own:
            return layout
        import ray

        gpus = min(int(ray.cluster_resources().get("GPU", 0)), layout.dit + layout.vae)
        return Layout(layout.dit, layout.vae, gpus, tuple(map(str, range(gpus))))

    async def reserve(self, layout: Layout) -> None:
        """Reserve one place per worker. Raises UserError that says what is missing."""
        import ray
        from ray.util.placement_group import placement_group

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
        raise UserError(
            f"cluster {self.address}: {share * len(bundles):g} {kind} needed for {layout.dit} DiT and {layout.vae} VAE "
            f"workers, {free:g} of {have:g} are free; ask for fewer workers or wait until others are done"
        )

    def spawn(self, worker: type, place: int | None, share: float, **options: Any) -> Any:
        """Start an actor of class ``worker`` with a share of a reserved place (None: anywhere,
        taking nothing); returns its handle at once. It is never restarted behind our back."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs: dict[str, Any] = {"num_cpus": 0}
        if place is not None:
            bundle = self._places.bundle_specs[place]
            needs = {
                "num_cpus": share * bundle.get("CPU", 0),
                "num_gpus": share * bundle.get("GPU", 0),
            }
            needs["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._places, place)
        return (
            ray.remote(worker)
            .options(max_restarts=0, max_task_retries=0, **needs)
            .remote(**options)
        )

    def end(self, actor: Any) -> None:
        """Kill an actor's process, whatever it is doing."""
        import ray

        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(actor, no_restart=True)

    @property
    def gone(self) -> bool:
        """Our head ended."""
        return self._guardian is not None and self._guardian.returncode is not None

    async def ended(self) -> str:
        """Wait until our head ends by itself, and say so. For a cluster that we joined: never."""
        if self._guardian is None:
            await asyncio.Event().wait()
        assert self._guardian is not None
        await self._guardian.wait()
        return "the Ray head of this run ended (its gcs_server or raylet died or was stopped)"

    async def close(self) -> None:
        """Disconnect and, if it is ours, end the head and everything below it. Idempotent."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            await asyncio.wait_for(asyncio.to_thread(self._disconnect), 3)
        guardian = self._guardian
        if guardian is not None and guardian.returncode is None:
            assert guardian.stdin is not None
            guardian.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(guardian.wait(), CLOSE_SECONDS)
        self._folder.remove()

    async def _connect(self) -> None:
        """In a thread: joining takes a second, and on the main thread Ray would take the signal
        handlers over."""
        await asyncio.to_thread(_join, self.address)

    def _disconnect(self) -> None:
        places, self._places = self._places, None
        if "ray" not in sys.modules:
            return
        import ray
        from ray.util.placement_group import remove_placement_group

        if places is not None and not self.own:
            remove_placement_group(places)
        ray.shutdown()


def _join(address: str) -> None:
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    # Ray prints a paragraph on standard output for every worker that ends; we say it in one line,
    # elsewhere.
    ray._private.worker.print_to_stdstream = lambda data, **settings: None
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    ray.init(address=address, namespace=NAMESPACE, **quiet)


def reach(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=3).close()


async def _result(reference: Any) -> None:
    await reference

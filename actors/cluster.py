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
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs.errors import UserError
from configs.load import ROOT, child_environment

NAMESPACE: Final = "matrix"
USUAL_VAE_WORKERS: Final = 3  # of the published launcher
SOCKET_PATH_ROOM: Final = (
    36  # characters of a temp folder that leave room for Ray's AF_UNIX names (107 bytes in all)
)
OBJECT_STORE_BYTES: Final = (
    512 << 20
)  # a few chunks in flight: 4 MB of frames and 1 MB of state each at full size
START_SECONDS: Final = 90.0
PLACE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 8.0
PORT_OPTIONS: Final = (
    "--port",
    "--node-manager-port",
    "--object-manager-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
    # Where grpcio is installed Ray also opens a server for remote drivers, for every cluster on the
    # same port, and without grpcio it refuses the option. It cannot be turned off; it asks for the
    # token like all others.
    *(("--ray-client-server-port",) if importlib.util.find_spec("grpc") else ()),
)
# Exit code 0 = came in. A stranger has no token and does not know that one is needed.
STRANGER: Final = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=5)
"""


@dataclass(frozen=True)
class Layout:
    """Who works where: ``dit`` ranks, ``vae`` workers, and ``gpus`` devices for them (0 = CPU
    workers)."""

    dit: int = 1
    vae: int = 1
    gpus: int = 0
    devices: tuple[str, ...] = ()

    @staticmethod
    def plan(dit: int | None, vae: int | None, pool: Sequence[str]) -> "Layout":
        """Fit the wanted numbers (None = as the machine allows) to the GPUs in ``pool``.

        No GPU: CPU workers, one each unless asked otherwise. One GPU: both groups share it. Else
        one GPU per worker, the transformer's first. Raises UserError when there are too few.
        """
        if not pool:
            return Layout(dit or 1, 1 if vae is None else vae)
        if len(pool) == 1 and dit in (None, 1) and vae in (None, 0, 1):
            return Layout(1, 1 if vae is None else vae, 1, tuple(pool))
        dit = dit or 1
        vae = min(USUAL_VAE_WORKERS, max(1, len(pool) - dit)) if vae is None else vae
        if dit + vae > len(pool):
            raise UserError(
                f"NUM_GPUS_DIT={dit} and NUM_GPUS_VAE={vae} need {dit + vae} GPUs, {len(pool)} are visible "
                f"({', '.join(pool)}); ask for fewer, or widen CUDA_VISIBLE_DEVICES"
            )
        return Layout(dit, vae, dit + vae, tuple(pool[: dit + vae]))

    @property
    def text(self) -> int | None:
        """The place whose GPU the text encoder shares: the last one. None: it runs on the CPU, in
        nobody's place."""
        return self.dit + self.vae - 1 if self.gpus else None

    @property
    def shared(self) -> bool:
        """One GPU serves both groups."""
        return 0 < self.gpus < self.dit + self.vae

    def bundles(self) -> list[dict[str, float]]:
        """What to reserve, one bundle per worker: DiT ranks first, then VAE workers."""
        kind = "GPU" if self.gpus else "CPU"
        return [{kind: 0.5 if self.shared else 1.0}] * (self.dit + self.vae)

    def __str__(self) -> str:
        if not self.gpus:
            return f"DiT {self.dit} + VAE {self.vae} CPU worker{'s' if self.dit + self.vae > 2 else ''}"
        if self.shared:
            return f"DiT {self.dit} + VAE {self.vae} sharing one GPU"
        return f"DiT GPU 0..{self.dit - 1}, VAE GPU {self.dit}..{self.dit + self.vae - 1}"


class Cluster:
    """A connection to Ray. ``folder`` is ours alone and vanishes with the run."""

    def __init__(
        self, address: str, folder: Path, guardian: "asyncio.subprocess.Process | None"
    ) -> None:
        self.address = address
        self.folder = folder
        self._guardian = guardian
        self._places: Any = None

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
        folder = run_folder()
        (folder / "token").touch(0o600)
        (folder / "token").write_text(secrets.token_hex(32))
        ports = free_ports(len(PORT_OPTIONS))
        address = f"127.0.0.1:{ports[0]}"
        os.environ.pop("RAY_ADDRESS", None)
        os.environ.update(secrets_of(folder))
        try:
            guardian = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "actors.guardian",
                    str(folder),
                    *head_command(folder, ports, layout),
                ),
                cwd=ROOT,
                env=child_environment(**worker_environment(layout)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for the launcher
            )
        except BaseException:  # a signal, right now
            shutil.rmtree(folder, ignore_errors=True)
            raise
        cluster = Cluster(address, folder, guardian)
        try:
            assert guardian.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                await asyncio.to_thread(
                    importlib.import_module, "ray"
                )  # while the head starts, on another core
                said = (await guardian.stdout.readline()).decode(errors="replace").strip()
            if said != "ready":
                raise RuntimeError(f"the Ray head did not start: {said or 'it said nothing'}")
            await cluster._connect()
        except (TimeoutError, ConnectionError) as error:
            await cluster.close()
            reason = (
                f"no answer within {START_SECONDS:.0f} s"
                if isinstance(error, TimeoutError)
                else str(error)
            )
            raise RuntimeError(f"the Ray head did not start: {reason}") from None
        except BaseException:
            await cluster.close()
            raise
        return cluster

    @staticmethod
    async def attach(address: str) -> "Cluster":
        """Connect to the cluster at HOST:PORT, which is left running. Raises UserError if it cannot
        be reached."""
        cluster = Cluster(address, run_folder(), None)
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

    async def ended(self) -> str:
        """Wait until our head ends by itself, and say so. For a cluster that we joined: never."""
        if self._guardian is None:
            await asyncio.Event().wait()
        assert self._guardian is not None
        await self._guardian.wait()
        return "the Ray head of this run ended (its gcs_server or raylet was killed); start again"

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
        shutil.rmtree(self.folder, ignore_errors=True)

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


def run_folder() -> Path:
    """A folder of mode 0700 with a short path, whatever TMPDIR is."""
    parent = tempfile.gettempdir()
    if len(parent) > SOCKET_PATH_ROOM - len("/matrix-xxxxxxxx"):
        parent = "/tmp"
    return Path(tempfile.mkdtemp(prefix="matrix-", dir=parent))


def secrets_of(folder: Path) -> dict[str, str]:
    """Ray's variables for processes of this run. All are set: what is unset, Ray takes from
    elsewhere."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it prints a stack trace at an orderly SIGTERM
        # of replies that a fault or a reset made worthless; we report faults
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    }


def head_command(folder: Path, ports: Sequence[int], layout: Layout) -> list[str]:
    """``ray start`` for a head that listens on ``ports`` and keeps its files in ``folder``.

    CPU counts are book-keeping here: there is one place per worker, and as many again for a second
    DiT group."""
    return [
        *(
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--node-ip-address=127.0.0.1",
        ),
        *(f"{option}={port}" for option, port in zip(PORT_OPTIONS, ports, strict=True)),
        *(
            "--include-dashboard=false",
            "--include-log-monitor=false",
            "--no-monitor",
            "--disable-usage-stats",
        ),
        *(f"--temp-dir={folder / 'ray'}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        *(f"--num-cpus={2 * layout.dit + layout.vae}", f"--num-gpus={layout.gpus}"),
    ]


def worker_environment(layout: Layout) -> dict[str, str]:
    """Variables of the head and all workers: workers start when they are needed, not in advance,
    and the head does not wait for a dashboard that nobody uses."""
    variables = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        # a thread that waits for its peer must not burn the core that the peer needs
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "0",
        # Ray's own 15 lets any other program on the machine starve the stream
        "RAY_worker_niceness": "0",
    }
    if layout.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(layout.devices)
        variables["PYTORCH_CUDA_ALLOC_CONF"] = os.environ.get(
            "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"
        )
    return variables


def visible_gpus(pool: Sequence[str] | None) -> tuple[str, ...]:
    """The GPUs there are to take from; ``pool`` (CUDA_VISIBLE_DEVICES) limits them. Raises
    UserError for a pool that names absent ones: to run on the CPU instead, unasked, would be a slow
    surprise."""
    if pool is not None and not pool:
        return ()
    import torch

    present = (
        torch.cuda.device_count() if torch.cuda.is_available() else 0
    )  # of the pool, which CUDA reads too
    if pool is not None and present < len(pool):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={','.join(pool)}: {present} of these GPUs can be used here; correct it, unset it, or"
            " set it to nothing for CPU workers"
        )
    return tuple(pool or [str(number) for number in range(present)])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, on any interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def reach(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=3).close()


async def _result(reference: Any) -> None:
    await reference

"""A Ray head of our own: its folder, its secrets, its command and what its processes see.

Nothing of somebody else's Ray has a say here: every ``RAY_...`` variable that we find is dropped,
and those that decide who may come in are all set, because Ray takes what is unset from elsewhere.
"""

import asyncio
import contextlib
import fcntl
import functools
import importlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from actors.layout import Layout
from configs.errors import UserError
from configs.load import ROOT, child_environment
from configs.logs import listen_for_ever, set_level

logger = logging.getLogger(__name__)
LOG_LEVEL: Final = "MATRIX_LOG_LEVEL"  # of workers: the launcher's
PREFIX: Final = "matrix-"
# Characters of a temp folder that leave room for Ray's AF_UNIX names (107 bytes in all).
SOCKET_PATH_ROOM: Final = 36
# A few chunks in flight: 4 MB of frames and 1 MB of state each at full size.
OBJECT_STORE_BYTES: Final = 512 << 20
# What Ray imports where it is installed, and nobody here uses: with Jupyter comes a grammar of IRIs
# for jsonschema, whose compilation costs each of Ray's processes most of a second.
UNUSED: Final = ("rfc3987_syntax",)
SHARED_MEMORY: Final = Path("/dev/shm")
# Ray's own command. Where grpcio is installed it would also open a server for remote drivers, which
# cannot be turned off and which nobody here needs; it does not where grpcio cannot be imported.
RAY: Final = (
    "import sys; sys.modules['grpc'] = None; from ray.scripts.scripts import main; sys.exit(main())"
)
PORT_OPTIONS: Final = (
    "--port",
    "--node-manager-port",
    "--object-manager-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)


class RunFolder:
    """A folder of mode 0700 with a short path, ours for as long as this process or its guardian
    lives: a lock says so, which the kernel lets go when both are gone."""

    def __init__(self) -> None:
        parent = _parent()
        sweep(parent)
        # It gets its name once the lock is held: a sweep of another start never sees it without.
        nameless = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        self.lock = os.open(nameless / "alive", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.path = nameless.rename(nameless.with_name(nameless.name[1:]))

    def remove(self) -> None:
        """Let it go, with all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove what a launcher and its guardian left that were both killed: folders of ours whose
    lock nobody holds."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or going away right now
            if folder.stat().st_uid != os.getuid() or not (folder / "alive").is_file():
                continue
            lock = os.open(folder / "alive", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _parent() -> Path:
    """Where Ray can live: its socket names must fit, and it reads them as ASCII."""
    parent = tempfile.gettempdir()
    short = len(parent) <= SOCKET_PATH_ROOM - len(f"/{PREFIX}xxxxxxxx")
    return Path(parent if short and parent.isascii() else "/tmp")


@functools.cache
def token() -> str:
    """The secret of this process's clusters, one after the other: Ray reads it once."""
    return secrets.token_hex(32)


def write_token(folder: Path) -> None:
    (folder / "token").touch(0o600)
    (folder / "token").write_text(token())


def secrets_of(folder: Path) -> dict[str, str]:
    """Ray's variables for processes of this run. All are set: what is unset, Ray takes from
    elsewhere."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a call between two clusters must not start a third
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it prints a stack trace at an orderly SIGTERM
        # of replies that a fault or a reset made worthless; we report faults
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    }


def adopt_secrets(folder: Path) -> None:
    """Make this process one of the run: from here on it sees no other Ray's variables."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.environ.update(secrets_of(folder))


def leave_out(folder: Path) -> Path:
    """A folder for the search path, below ``folder``: what stands there cannot be imported."""
    absent = folder / "absent"
    absent.mkdir(exist_ok=True)
    for name in UNUSED:
        (absent / f"{name}.py").write_text("raise ImportError('left out: see actors/head.py')\n")
    return absent


def import_ray() -> None:
    """Import Ray into this process, without what it does not need."""
    absent = {name: None for name in UNUSED if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        importlib.import_module("ray")
    finally:
        for name in absent:
            del sys.modules[name]


def head_environment(layout: Layout, folder: Path) -> dict[str, str]:
    """What the head and all workers see: this process's variables, less what bends Python's or
    Ray's ways."""
    environment = child_environment(**worker_environment(layout))
    environment["PYTHONPATH"] += f"{os.pathsep}{leave_out(folder)}"
    environment.pop("PYTHONOPTIMIZE", None)  # Ray reads docstrings
    return environment


def worker_environment(layout: Layout) -> dict[str, str]:
    """Variables of the head and all workers: workers start when they are needed, not in advance,
    and the head does not wait for a dashboard that nobody uses."""
    variables = {
        "PYTHONPATH": str(ROOT),
        LOG_LEVEL: logging.getLevelName(logger.getEffectiveLevel()).lower(),
        "OMP_NUM_THREADS": "1",
        # a thread that waits for its peer must not burn the core that the peer needs
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "0",
        # Ray's own 15 lets any other program on the machine starve the stream
        "RAY_worker_niceness": "0",
        # bytes up to which a result comes with its answer and not through the raylet, which takes
        # a tenth of a small latent's time: latents of every size, frames of small worlds
        "RAY_max_direct_call_object_size": str(2**20),
    }
    if layout.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(layout.devices)
        variables["PYTORCH_CUDA_ALLOC_CONF"] = os.environ.get(
            "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"
        )
    return variables


def log_to_ray() -> None:
    """In a worker: write the packages' loggers to standard error, which Ray keeps in a file."""
    set_level(os.environ.get(LOG_LEVEL, "warning"))
    listen_for_ever(logging.StreamHandler(sys.stderr))


def head_command(folder: Path, ports: Sequence[int], layout: Layout) -> list[str]:
    """``ray start`` for a head that listens on ``ports`` and keeps its files in ``folder``.

    CPU counts are book-keeping here: there is one place per worker, and as many again for a second
    DiT group."""
    return [
        *(sys.executable, "-c", RAY, "start", "--head", "--block"),
        "--node-ip-address=127.0.0.1",
        *(f"{option}={port}" for option, port in zip(PORT_OPTIONS, ports, strict=True)),
        *("--include-dashboard=false", "--include-log-monitor=false"),
        *("--no-monitor", "--disable-usage-stats"),
        *(f"--temp-dir={folder / 'ray'}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        *(f"--num-cpus={layout.dit + layout.workers}", f"--num-gpus={layout.gpus}"),
    ]


def node_command(address: str, ports: Sequence[int]) -> list[str]:
    """``ray start`` for a node beside a head of ours on this machine, on one port less."""
    ray = str(Path(sys.executable).with_name("ray"))
    return [
        *(ray, "start", f"--address={address}", "--block", "--node-ip-address=127.0.0.1"),
        *(f"{option}={port}" for option, port in zip(PORT_OPTIONS[1:], ports, strict=True)),
        *("--min-worker-port=0", "--max-worker-port=0"),  # the head's node has the usual ones
        *("--include-log-monitor=false", "--disable-usage-stats"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
    ]


async def guarded(
    folder: RunFolder,
    command: Sequence[str],
    layout: Layout,
    kept: str = "",
    before: Callable[[], object] | None = None,
) -> Process:
    """A guardian (actors/guardian.py) that runs the command of a head or a node. kept: the folder for
    its logs; before: called in the new process, whose children have what it sets as well."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "actors.guardian", str(folder.path), kept, *command),
        cwd=ROOT,
        env=head_environment(layout, folder.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the launcher
        pass_fds=(folder.lock,),
        preexec_fn=before,
    )


def check_machine() -> None:
    """What a head of our own needs of this machine. Raises UserError that says what to do."""
    if sys.flags.optimize >= 2:
        raise UserError(
            "Python runs with -OO (PYTHONOPTIMIZE=2), which takes away the docstrings that Ray"
            " reads; unset PYTHONOPTIMIZE or use 1"
        )
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        raise UserError(
            f"loopback: 127.0.0.1 cannot be reached ({error.strerror or error}); bring it up"
            " (ip link set lo up), all processes of a run meet there"
        ) from None
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            pass
    except OSError as error:
        raise UserError(
            f"shared memory: {SHARED_MEMORY} cannot be written ({error.strerror}); mount it"
            " writable (docker run --shm-size=1g), frames cross between processes there"
        ) from None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, on any interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]

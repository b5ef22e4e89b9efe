"""The Ray cluster of one run: a head of our own that nobody else can use or notice, or one that
exists already.

Nothing here ever looks for a cluster by itself: an address is ours or was given (``RAY_ADDRESS`` is
ignored). Ray is imported after the run's token is set, because it reads how to authenticate when it
is imported.
"""

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from actors.guardian import LOGS
from actors.head import (
    PORT_OPTIONS,
    RunFolder,
    adopt_secrets,
    free_ports,
    guarded,
    head_command,
    import_ray,
    leave_out,
    write_token,
)
from actors.layout import Layout
from configs.errors import UserError
from configs.load import child_environment

START_SECONDS: Final = 90.0
CLOSE_SECONDS: Final = 8.0
LEAVE_SECONDS: Final = 3.0  # for a goodbye to a cluster that stands
LET_GO_SECONDS: Final = 30.0  # Ray looks for a cluster that is gone before it lets go of it
LOOK_SECONDS: Final = 5.0  # between two looks whether a joined cluster is there
LOOKS: Final = 3  # in vain, until it is gone
if TYPE_CHECKING:
    from actors.membership import Membership

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
        self._member: Membership | None = None
        self._unreachable = False

    @property
    def folder(self) -> Path:
        """Files of this run."""
        return self._folder.path

    @property
    def member(self) -> "Membership":
        """This process in the cluster."""
        assert self._member is not None, "not connected"
        return self._member

    @property
    def own(self) -> bool:
        """Started by us; it ends with us."""
        return self._guardian is not None

    @property
    def logs(self) -> Path:
        """Where our own head and its workers write their logs."""
        return self.folder / LOGS

    @property
    def token(self) -> Path:
        """The file that holds this run's token."""
        return self.folder / "token"

    @staticmethod
    async def start(
        layout: Layout,
        keep_logs: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> "Cluster":
        """Start a head of our own and connect to it; ``say`` hears how far it is. Cancelling this
        leaves nothing behind but its logs, which go into a folder below ``keep_logs``.

        Raises RuntimeError with the head's last words when it does not come up.
        """
        folder = RunFolder()
        write_token(folder.path)
        ports = free_ports(len(PORT_OPTIONS))
        adopt_secrets(folder.path)
        command = head_command(folder.path, ports, layout)
        kept = "" if keep_logs is None else str(keep_logs.resolve() / folder.path.name)
        try:
            guardian = await guarded(folder, command, layout, kept)
        except BaseException:  # a signal, right now
            folder.remove()
            raise
        cluster = Cluster(f"127.0.0.1:{ports[0]}", folder, guardian)
        try:
            await cluster._come_up(guardian, say)
        except (TimeoutError, ConnectionError) as error:
            await cluster.close()
            silent = isinstance(error, TimeoutError)
            reason = f"no answer within {START_SECONDS:.0f} s" if silent else str(error)
            raise RuntimeError(f"the Ray head did not start: {reason}") from None
        except BaseException:
            await cluster.close()
            raise
        return cluster

    async def _come_up(
        self, guardian: "asyncio.subprocess.Process", say: Callable[[str], None]
    ) -> None:
        assert guardian.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            # while the head starts, on another core
            await asyncio.to_thread(import_ray)
            say("waiting for the head of the cluster")
            said = (await guardian.stdout.readline()).decode(errors="replace").strip()
        if said != "ready":
            raise RuntimeError(f"the Ray head did not start: {head_said(said)}")
        say("the head answers, joining it")
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
            env={
                **environment,
                "RAY_AUTH_MODE": "disabled",
                "PYTHONPATH": str(leave_out(self.folder)),
            },
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
        gpus = min(self.member.gpus, layout.workers)
        return replace(layout, gpus=gpus, devices=tuple(map(str, range(gpus))))

    async def reserve(self, layout: Layout) -> None:
        """Reserve one place per worker. Raises UserError that says what is missing."""
        await self.member.reserve(layout)

    @property
    def gone(self) -> bool:
        """It answers nobody any more: our head ended, or nobody listens where we joined."""
        guardian = self._guardian
        return self._unreachable or (guardian is not None and guardian.returncode is not None)

    async def ended(self) -> str:
        """Wait until it is gone, and say so."""
        if self._guardian is None:
            return await self._vanished()
        await self._guardian.wait()
        return "the Ray head of this run ended (its gcs_server or raylet died or was stopped)"

    async def close(self) -> None:
        """Disconnect and, if it is ours, end the head and everything below it. Idempotent."""
        member, self._member = self._member, None
        # One that is gone is left for good before another is joined: Ray knows one at a time.
        seconds = LET_GO_SECONDS if self.gone else LEAVE_SECONDS
        if member is not None:
            with contextlib.suppress(Exception):  # the cluster may be gone
                await asyncio.wait_for(asyncio.to_thread(member.leave, not self.own), seconds)
        guardian = self._guardian
        if guardian is not None and guardian.returncode is None:
            assert guardian.stdin is not None
            guardian.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(guardian.wait(), CLOSE_SECONDS)
        self._folder.remove()

    async def _vanished(self) -> str:
        missed = 0
        while missed < LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(reach, self.address)
                missed = 0
            except OSError:
                missed += 1
        self._unreachable = True
        return f"the cluster at {self.address} does not answer any more"

    async def _connect(self) -> None:
        await asyncio.to_thread(import_ray)
        # Ray reads how to authenticate when it is imported: here, after the secrets are in place
        from actors.membership import Membership

        self._member = await asyncio.to_thread(Membership, self.address)


def head_said(said: str) -> str:
    """What a head that did not start had to say, without the traceback before it."""
    return re.split(r"(?:Exception|Error): ", said)[-1].strip() or "it said nothing"


def reach(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=3).close()

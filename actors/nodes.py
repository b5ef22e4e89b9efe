"""Ray nodes of our own on this machine, each on one processor: what a second node adds is measured on
them. A run joins them as it joins any cluster."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Final

from actors.head import (
    PORT_OPTIONS,
    RunFolder,
    adopt_secrets,
    free_ports,
    guarded,
    head_command,
    node_command,
    write_token,
)
from actors.layout import Layout

START_SECONDS: Final = 90.0


@contextlib.asynccontextmanager
async def pinned_nodes(processors: Sequence[int], layout: Layout) -> AsyncIterator[str]:
    """One node on each of these processors, with room for one replica of ``layout`` and no more:
    the address of the first. This process can join it. Raises RuntimeError when one does not start."""
    async with contextlib.AsyncExitStack() as stack:
        address = ""
        for processor in processors:
            folder = RunFolder()
            stack.callback(folder.remove)
            if not address:
                write_token(folder.path)
                adopt_secrets(folder.path)
            command, joined = _command(folder, address, layout)
            await stack.enter_async_context(_node(folder, command, processor, layout))
            address = address or joined
        yield address


def _command(folder: RunFolder, address: str, layout: Layout) -> tuple[list[str], str]:
    """What starts the head, or with ``address`` a node beside it; and the head's address."""
    room = f"--num-cpus={layout.dit + layout.vae}"
    if not address:
        ports = free_ports(len(PORT_OPTIONS))
        return [*head_command(folder.path, ports, layout), room], f"127.0.0.1:{ports[0]}"
    return [*node_command(address, free_ports(len(PORT_OPTIONS) - 1)), room], address


@contextlib.asynccontextmanager
async def _node(
    folder: RunFolder, command: Sequence[str], processor: int, layout: Layout
) -> AsyncIterator[None]:
    """A guardian and its node, which end with this context."""
    guardian = await guarded(
        folder, command, layout, before=lambda: os.sched_setaffinity(0, {processor})
    )
    assert guardian.stdin is not None and guardian.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            said = (await guardian.stdout.readline()).decode(errors="replace").strip()
        if said != "ready":
            raise RuntimeError(f"a Ray node did not start: {said}")
        yield
    finally:
        guardian.stdin.close()
        await guardian.wait()

"""A reverse proxy such as people sit behind: it serves its target under a path of its own, renames
Host or Origin, and may not know WebSockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Proxy:
    """``prefix`` is taken off every path. ``renamed`` are header fields that get another value on
    the way in. ``sockets=False``: a request for a WebSocket goes on as a plain one."""

    target: int
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    sockets: bool = True

    def request(self, head: str) -> str | None:
        """The head of a request as the target gets it; None for a path outside the prefix."""
        first, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
        method, path, version = first.split(" ")
        if not path.startswith(self.prefix + "/"):
            return None
        pairs = [field.split(": ", 1) for field in fields]
        upgrade = self.sockets and any(name.lower() == "upgrade" for name, _ in pairs)
        dropped = {name.lower() for name, _ in self.renamed}
        dropped |= set() if upgrade else {"connection", "upgrade"}
        kept = [(name, value) for name, value in pairs if name.lower() not in dropped]
        kept += self.renamed
        if not upgrade:
            kept.append(("Connection", "close"))  # one request a connection: no second head to find
        lines = [f"{method} {path.removeprefix(self.prefix)} {version}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in kept)]) + "\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = self.request((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            if head is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return writer.close()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            far_writer.write(head.encode("latin-1"))
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxy(target: int, prefix: str = "", **manners: object) -> AsyncIterator[int]:
    """The port of a proxy on 127.0.0.1 in front of ``target``; ``manners`` are fields of Proxy."""
    passing = Proxy(target, prefix, **manners)  # type: ignore[arg-type]
    server = await asyncio.start_server(passing.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()

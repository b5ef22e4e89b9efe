"""A user-space proxy with the rate, the delay and the buffers of a poor link."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator


class Link:
    """Both directions carry ``rate`` bytes a second and arrive ``delay`` seconds late. ``frozen``
    carries nothing."""

    def __init__(self, rate: float, delay: float) -> None:
        self.rate, self.delay = rate, delay
        self.carried = 0
        self.frozen = False
        self.port = 0

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: pieces leave at the link's rate, each arrives after the delay, in
        order."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def arrive() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    return writer.close()
                writer.write(data)
                await writer.drain()

        arriving = asyncio.create_task(arrive())
        free = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                while self.frozen:
                    await asyncio.sleep(0.05)
                free = max(free, time.monotonic()) + len(data) / self.rate
                await asyncio.sleep(max(0.0, free - time.monotonic()))
                self.carried += len(data)
                await pieces.put((time.monotonic() + self.delay, data))
        await pieces.put((0.0, b""))
        with contextlib.suppress(ConnectionError):
            await arriving


@contextlib.asynccontextmanager
async def slow_link(
    target: int, bits: float = 5e6, round_trip: float = 0.05
) -> AsyncIterator[Link]:
    """A proxy on a port of its own in front of ``target``."""
    link = Link(bits / 8, round_trip / 2)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(
            link.pump(reader, far_writer), link.pump(far_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()

"""The HTTP server itself: a bound port, uvicorn without its signal handlers, and patience limits
for slow requests."""

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from configs.errors import UserError

LARGEST_MESSAGE = 65_536  # bytes of one incoming WebSocket message; the connection ends beyond it
LARGEST_REQUEST = 16_384  # bytes of one request's header
MOST_CONNECTIONS = 400
MOST_SILENT = 200  # of them that have asked for nothing yet: they keep nobody out
REQUEST_SECONDS = 10.0  # for the whole of a request's header
CLOSE_SECONDS = 2
UNREADABLE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_numbers = itertools.count()  # of connections
# What uvicorn logs about clients that talk nonsense: any stranger could fill the terminal with it.
NO_NEWS = (
    "Invalid HTTP request",
    "Invalid UTF-8",
    "Unsupported upgrade request",
    "Exceeded concurrency limit",
)


class Server:
    """One ASGI application on one bound socket, inside a running event loop."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, tls: tuple[Path, Path] | None
    ) -> None:
        """``tls`` is (certificate chain, key) as PEM files. Raises UserError when they cannot be
        used."""
        self._listener = listener
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=_PatientProtocol,
            ws="websockets-sansio",
            ws_max_size=LARGEST_MESSAGE,
            ws_per_message_deflate=False,
            ws_ping_interval=10,
            ws_ping_timeout=10,
            h11_max_incomplete_event_size=LARGEST_REQUEST,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=str(tls[1]) if tls else None,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            listener.close()
            files = ", ".join(map(str, tls or ()))
            raise UserError(
                f"TLS files {files}: expected a PEM certificate chain and its key ({error})"
            ) from None
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._uvicorn = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once connections are answered."""
        self._task = asyncio.create_task(self._uvicorn.serve([self._listener]), name="web server")
        started = asyncio.create_task(self._uvicorn.up.wait())
        await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Close every connection and the port; at most a little over CLOSE_SECONDS. Idempotent."""
        self._uvicorn.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError when the port is taken or the address is not this
    machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot listen on {where}: {reason}; choose another --host or --port (0 = any free)"
        ) from None
    return listener


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NO_NEWS)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process it lives in and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class _PatientProtocol(H11Protocol):
    """Ends connections that dribble a request (slow loris); uvicorn's own time-out starts after a
    first answer only. Of those that say nothing at all the oldest go when there are many."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._made = next(_numbers)
        silent = [each for each in self.connections if isinstance(each, _PatientProtocol)]
        silent = [each for each in silent if each.cycle is None]
        if len(silent) > MOST_SILENT:
            oldest = min(silent, key=lambda each: each._made)
            self.connections.discard(oldest)
            oldest.transport.abort()
        self.loop.call_later(REQUEST_SECONDS, self._look_again, self.cycle)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """What its WebSocket protocol cannot read (a header line of over 8 KB) it neither answers
        nor ends."""
        super().handle_websocket_upgrade(event)
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            self.transport.write(UNREADABLE)
            self.transport.close()

    def _look_again(self, before: Any) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(REQUEST_SECONDS, self._look_again, self.cycle)

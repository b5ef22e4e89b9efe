"""One port: the page, the live socket, downloads, health and figures. Everything else is refused at
the door."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from configs.errors import UserError
from pipeline.stage.show import Show
from pipeline.web.access import Access
from pipeline.web.allowance import RATE, Allowance
from pipeline.web.door import Door
from pipeline.web.messages import parse_hello
from pipeline.web.metrics import Counters
from pipeline.web.polling import Polling
from pipeline.web.room import Room
from pipeline.web.server import Server, bind
from pipeline.web.viewer import Viewer

PAGE = Path(__file__).parent / "static"
HELLO_SECONDS = 10.0
GONE = (RuntimeError, OSError, WebSocketDisconnect)  # what writing to a closed socket raises
READ_AT_ONCE = 16  # messages of one client, before everybody else's turn on the event loop


class Gateway:
    """Serves one show to browsers and programs.

    Building it binds the port and so raises UserError when that is taken; nothing is answered
    before ``start``. It works from before the show has loaded until after it ended, and never
    touches signal handlers.
    """

    def __init__(
        self,
        show: Show,
        *,
        host: str,
        port: int,
        token: str,
        tls: tuple[Path, Path] | None = None,
        names: Iterable[str] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        """``tls`` is (certificate chain, key) as PEM files; ``names`` are further host names of
        this machine; port 0 means any free one; ``registry`` holds what /metrics shows besides the
        gateway's own figures."""
        self._show = show
        self._token = token
        self._registry = registry or CollectorRegistry()
        self._counters = Counters(self._registry)
        self._access = Access(token, host, secure=tls is not None, names=names)
        self._room = Room(show, self._counters)
        listener = bind(host, port)
        self._host, self.port = host, int(listener.getsockname()[1])
        self._server = Server(self._application(), listener, tls)

    @property
    def url(self) -> str:
        """The address to open, with the token: print it, never log it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{self._access.scheme}://{host}:{self.port}/?token={self._token}"

    async def start(self) -> None:
        """Return once the page is served."""
        await self._server.start()

    async def close(self) -> None:
        """Send everybody away and free the port. Idempotent."""
        await self._room.close()
        await self._server.close()

    def _application(self) -> Starlette:
        routes = [
            Route("/", self._page),
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
            Route("/recordings/{name}", self._recording),
            Route("/presets/{index:int}", self._preset),
            WebSocketRoute("/live", self._live),
            *Polling(self._room, self._access.proves).routes,
            Mount("/static", GZipMiddleware(StaticFiles(directory=PAGE))),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Door, access=self._access, counters=self._counters)],
        )

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _ready(self, request: Request) -> Response:
        return (
            PlainTextResponse("ready\n")
            if self._show.ready
            else PlainTextResponse("not ready\n", 503)
        )

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _preset(self, request: Request) -> Response:
        pictures, index = self._show.info.pictures, request.path_params["index"]
        if index >= len(pictures):
            return PlainTextResponse("no preset has that number\n", 404)
        return Response(pictures[index], media_type="image/jpeg")

    async def _recording(self, request: Request) -> Response:
        path = self._show.recordings.get(request.path_params["name"])
        if path is None or not path.is_file():
            return PlainTextResponse("no recording of this run has that name\n", 404)
        return FileResponse(path, filename=path.name)

    async def _live(self, socket: WebSocket) -> None:
        """One client from hello to goodbye."""
        await socket.accept()
        try:
            hello = await _hello(socket)
            if not self._access.proves(socket.headers, hello):
                self._counters.refused.labels("token").inc()
                raise UserError("this page has lost its key; open the address that was printed")
            viewer = self._room.join(hello)
        except (UserError, TimeoutError) as error:
            with contextlib.suppress(*GONE):
                await socket.send_json({"type": "bye", "reason": str(error) or "no hello came"})
                await socket.close(1008)
            return
        writer = asyncio.create_task(self._write(viewer, socket))
        reader = asyncio.create_task(self._read(viewer, socket))
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._room.leave(viewer)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
        with contextlib.suppress(*GONE):
            await socket.close(1001)

    async def _write(self, viewer: Viewer, socket: WebSocket) -> None:
        await viewer.run(
            lambda event: self._room.hear(viewer, event), socket.send_text, socket.send_bytes
        )

    async def _read(self, viewer: Viewer, socket: WebSocket) -> None:
        """Handle what comes, fairly: a client that sends too much waits, and everybody else has
        their turn."""
        allowance = Allowance()
        count = 0
        while (message := await socket.receive())["type"] == "websocket.receive":
            self._room.handle(viewer, message.get("text"))
            count += 1
            now = time.monotonic()
            wait = allowance.take(now)
            if allowance.is_exhausted(now):
                viewer.tell("bye", reason="too many messages")
                return
            if wait > READ_AT_ONCE / RATE or count % READ_AT_ONCE == 0:
                await asyncio.sleep(wait)


async def _hello(socket: WebSocket) -> dict[str, object]:
    message = await asyncio.wait_for(socket.receive(), HELLO_SECONDS)
    if message["type"] != "websocket.receive":
        raise UserError("gone before saying hello")
    return parse_hello(message.get("text") or "")

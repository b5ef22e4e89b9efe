"""The application of one show: its page, the live socket and long polls, recordings and presets. Who
may come in is the door's matter, who may drive the room's."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from actors.tasks import cancel
from configs.errors import UserError
from pipeline.stage.show import Show
from pipeline.web.access import Access, NoKey
from pipeline.web.allowance import RATE, Allowance
from pipeline.web.door import ACCESS
from pipeline.web.messages import parse_hello
from pipeline.web.metrics import Counters, registry
from pipeline.web.polling import Polling
from pipeline.web.room import Room
from pipeline.web.travel import Branch
from pipeline.web.uploads import Uploads
from pipeline.web.viewer import Viewer

PAGE = Path(__file__).parent / "static"
HELLO_SECONDS = 10.0
GONE = (RuntimeError, OSError, WebSocketDisconnect)  # what writing to a closed socket raises
SMALL_PICTURE = 60  # JPEG quality of the lobby's pictures
READ_AT_ONCE = 16  # messages of one client, before everybody else's turn on the event loop


class Site:
    """One show for browsers and programs. ``arrive`` is called whenever somebody comes to watch,
    before they are shown anything; ``branch`` makes another world of a moment of this one."""

    def __init__(
        self, show: Show, arrive: Callable[[], None] = lambda: None, branch: Branch | None = None
    ) -> None:
        self.registry = registry(show)
        self.counters = Counters(self.registry)
        self.room = Room(show, self.counters, branch)
        self._show = show
        self._arrive = arrive

    def application(self) -> Starlette:
        """What answers behind a door."""
        routes = [
            Route("/", self._page),
            Route("/recordings/{name}", self._recording),
            Route("/presets/{index:int}", self.preset),
            WebSocketRoute("/live", self._live),
            *Polling(self.room, self._join).routes,
            *Uploads(self.room.travel).routes,
            Mount("/static", static_files()),
        ]
        return Starlette(routes=routes)

    def picture(self, after: str = "") -> tuple[str, bytes] | None:
        """The frame on the screen as a JPEG and which one it is; None when that is ``after``, or
        there is none yet."""
        frame = self._show.newest
        if frame is None or (place := f"{frame.epoch}.{frame.index}") == after:
            return None
        return place, self.room.pictures.of(frame, SMALL_PICTURE)

    async def close(self) -> None:
        """Send everybody away. Idempotent."""
        await self.room.close()

    def _join(self, connection: HTTPConnection, hello: dict[str, object]) -> Viewer:
        """Seat a client that has said hello. Raises UserError when it may not come in."""
        access: Access = connection.scope[ACCESS]
        right = access.proven(connection.headers, hello)
        if right is None:
            self.counters.refused.labels("token").inc()
            raise NoKey("this page has lost its key; open the address that was printed")
        self._arrive()
        return self.room.join(hello, right)

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def preset(self, request: Request) -> Response:
        """The picture of a preset."""
        pictures, index = self._show.info.pictures, request.path_params["index"]
        if index >= len(pictures):
            return PlainTextResponse("no preset has that number\n", 404)
        return Response(pictures[index], media_type="image/jpeg")

    async def _recording(self, request: Request) -> Response:
        path = self._show.recordings.files.get(request.path_params["name"])
        if path is None or not path.is_file():
            return PlainTextResponse("no recording of this run has that name\n", 404)
        return FileResponse(path, filename=path.name)

    async def _live(self, socket: WebSocket) -> None:
        """One client from hello to goodbye."""
        await socket.accept()
        try:
            viewer = self._join(socket, await _hello(socket))
        except (UserError, TimeoutError) as error:
            with contextlib.suppress(*GONE):
                await socket.send_json({"type": "bye", "reason": str(error) or "no hello came"})
                await socket.close(1008)
            return
        writer = asyncio.create_task(
            viewer.run(
                lambda event: self.room.hear(viewer, event), socket.send_text, socket.send_bytes
            )
        )
        reader = asyncio.create_task(self._read(viewer, socket))
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.room.leave(viewer)
            await cancel(reader, writer)
        with contextlib.suppress(*GONE):
            await socket.close(1001)

    async def _read(self, viewer: Viewer, socket: WebSocket) -> None:
        """Handle what comes, fairly: a client that sends too much waits, and everybody else has
        their turn."""
        allowance = Allowance()
        count = 0
        while (message := await socket.receive())["type"] == "websocket.receive":
            self.room.handle(viewer, message.get("text"))
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


def static_files() -> GZipMiddleware:
    """Scripts, styles and pictures of every page."""
    return GZipMiddleware(StaticFiles(directory=PAGE))

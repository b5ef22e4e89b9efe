"""The live connection where WebSockets do not get through: the same messages and frames over plain
HTTP. What a viewer is sent waits in a mailbox for its next long poll; what it says comes in posts.

Slower than a socket (every poll costs a round trip), and fit for any proxy that passes requests.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from actors.tasks import Tasks, cancel
from configs.errors import UserError
from pipeline.web.access import NoKey
from pipeline.web.allowance import Allowance
from pipeline.web.messages import parse_hello, unpack_frame
from pipeline.web.room import Room
from pipeline.web.viewer import Viewer

LONGEST_POLL = 10.0  # seconds that a poll waits for news; proxies end silent answers after 30 or 60
GONE_AFTER = 5.0  # seconds without a poll after which a client has left
LARGEST_POST = 65_536  # bytes
POST_SECONDS = 10.0  # for the whole of a post
MOST_WAITING = 64  # records of one mailbox; its viewer drops frames meanwhile, as on a slow socket
LOST_AFTER = 2.0  # seconds after the next poll has come, in which frames are acknowledged
TEXT, BINARY = 0, 1
HEAD_BYTES = 5  # of a record: its kind and its length


class TooLarge(UserError):
    """A post of more than LARGEST_POST bytes."""


Join = Callable[[HTTPConnection, dict[str, object]], Viewer]


class Mailbox:
    """Stands in for a viewer's socket: keeps what it is sent until a poll fetches it."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.allowance = Allowance()
        self._records: list[bytes] = []
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._newest: asyncio.Future[Any] | None = None  # poll: what waits for its records
        self._given: tuple[int, int] | None = None  # epoch and index of the last frame fetched
        self._polls = 0  # under way
        self._polled = time.monotonic()

    async def send_text(self, text: str) -> None:
        await self._keep(_record(TEXT, text.encode()))

    async def send_bytes(self, data: bytes) -> None:
        await self._keep(_record(BINARY, data))

    async def _keep(self, record: bytes) -> None:
        await self._room.wait()
        self._records.append(record)
        self._news.set()
        if len(self._records) >= MOST_WAITING:
            self._room.clear()

    async def fetch(self, gone: "asyncio.Future[Any]") -> bytes:
        """All records that wait, or the first that comes. Nothing after LONGEST_POLL, once a newer
        poll waits, or once ``gone`` is done: who will not hear the answer must not take records."""
        if self._newest is not None:
            self._newest.cancel()
        self._newest = news = asyncio.ensure_future(self._news.wait())
        self._expect_acks()
        self._polls += 1
        try:
            await asyncio.wait(
                {news, gone}, timeout=LONGEST_POLL, return_when=asyncio.FIRST_COMPLETED
            )
            return b"" if gone.done() or news is not self._newest else self._taken()
        finally:
            news.cancel()
            self._polls -= 1
            self._polled = time.monotonic()

    def _taken(self) -> bytes:
        records, self._records = self._records, []
        self._news.clear()
        self._room.set()
        for record in records:
            if record[0] == BINARY:
                header, _ = unpack_frame(record[HEAD_BYTES:])
                self._given = header.epoch, header.frame
        return b"".join(records)

    def _expect_acks(self) -> None:
        """Whoever asks again has had the answers before, or never will: a proxy may lose one."""
        if self._given is not None:
            asyncio.get_running_loop().call_later(LOST_AFTER, self.viewer.lost, *self._given)
            self._given = None

    async def abandoned(self) -> None:
        """Return once nobody has polled for GONE_AFTER."""
        while self._polls or time.monotonic() - self._polled < GONE_AFTER:
            await asyncio.sleep(GONE_AFTER / 5)


class Polling:
    """Serves a room's viewers without sockets. ``join`` seats a client that has said hello."""

    def __init__(self, room: Room, join: Join) -> None:
        self._room = room
        self._seat = join
        self._boxes: dict[str, Mailbox] = {}  # by a secret name that only the client is told
        self._tasks = Tasks()
        self.routes = [
            Route("/poll", self._join, methods=["POST"]),
            Route("/poll/{name}", self._hear, methods=["GET"]),
            Route("/poll/{name}", self._say, methods=["POST"]),
        ]

    async def _join(self, request: Request) -> Response:
        """hello -> the name under which to poll and to post."""
        try:
            viewer = self._seat(request, parse_hello(await body_of(request)))
        except NoKey as error:
            return PlainTextResponse(f"{error}\n", 403)
        except UserError as error:
            return PlainTextResponse(f"{error}\n", 400)
        name = secrets.token_urlsafe(16)
        box = self._boxes[name] = Mailbox(viewer)
        self._tasks.start(self._serve(name, box))
        return PlainTextResponse(name)

    async def _serve(self, name: str, box: Mailbox) -> None:
        """Write to the mailbox until the show or the client is gone."""
        viewer = box.viewer
        writer = asyncio.create_task(
            viewer.run(lambda event: self._room.hear(viewer, event), box.send_text, box.send_bytes)
        )
        gone = asyncio.create_task(box.abandoned())
        try:
            await asyncio.wait({writer, gone}, return_when=asyncio.FIRST_COMPLETED)
            self._room.leave(viewer)
            await gone  # the last words wait for their poll
        finally:
            self._room.leave(viewer)
            await cancel(writer, gone)
            del self._boxes[name]

    async def _hear(self, request: Request) -> Response:
        box = self._boxes.get(request.path_params["name"])
        if box is None:
            return PlainTextResponse("nobody polls under this name\n", 410)
        gone = asyncio.create_task(_left(request))
        try:
            return Response(await box.fetch(gone), media_type="application/octet-stream")
        finally:
            await cancel(gone)

    async def _say(self, request: Request) -> Response:
        """JSON messages, one a line."""
        box = self._boxes.get(request.path_params["name"])
        if box is None:
            return PlainTextResponse("nobody polls under this name\n", 410)
        try:
            lines = (await body_of(request)).split("\n")
        except UserError as error:
            return PlainTextResponse(f"{error}\n", 413 if isinstance(error, TooLarge) else 400)
        for line in filter(None, lines):
            self._room.handle(box.viewer, line)
            now = time.monotonic()
            await asyncio.sleep(box.allowance.take(now))
            if box.allowance.is_exhausted(now):
                box.viewer.tell("bye", reason="too many messages")
                box.viewer.close()
                return PlainTextResponse("too many messages\n", 429)
        return Response(status_code=204)


async def _left(request: Request) -> None:
    """Return once the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _record(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4) + data


async def body_of(request: Request) -> str:
    """The text of a post. Raises TooLarge, and UserError for other text than UTF-8 and for a post that
    does not come whole within POST_SECONDS."""
    data = b""
    try:
        async with asyncio.timeout(POST_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > LARGEST_POST:
                    raise TooLarge(f"post: expected at most {LARGEST_POST} bytes")
        return data.decode()
    except TimeoutError:
        raise UserError(f"post: expected it whole within {POST_SECONDS:.0f} s") from None
    except UnicodeDecodeError:
        raise UserError("post: expected UTF-8 text") from None
    except ClientDisconnect:
        raise UserError("post: expected it whole, and who sent it left") from None

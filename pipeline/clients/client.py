"""A Python client of the live page's socket: iterate frames as arrays, steer with labels, change
the prompt.

    async with await connect("http://127.0.0.1:8000/?token=...") as world:
        world.hold("DL")
        async for frame in world:
            print(frame.header.frame, frame.image.shape)

The URL is the one that the program printed. The protocol is written down in docs/protocol.md.
"""

import asyncio
import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from actors.tasks import cancel
from configs.errors import UserError
from models.controls import STRAIGHT_ON, label_id
from pipeline.clients.lobby import Card, DriveCard, Lobby
from pipeline.video import decode_jpeg
from pipeline.web.messages import FrameHeader, unpack_frame

REPEAT_SECONDS: Final = 0.25  # the server lets go of what is not repeated within a second
LATEST_MESSAGES: Final = 1024


@dataclass(frozen=True)
class Frame:
    """One received frame: ``image`` is uint8 [H, W, 3] RGB, ``received`` monotonic seconds of this
    process."""

    header: FrameHeader
    image: np.ndarray
    received: float


@dataclass(frozen=True)
class Address:
    """Where a world is served, such as http://127.0.0.1:8000/, and its token."""

    url: str
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    def post(self, address: str, path: Path) -> None:
        """Send a file to an address of the site (blocks). Raises UserError with the answer, or for
        want of one."""
        secure = urllib.request.HTTPSHandler(context=self.tls)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), secure)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Length": str(path.stat().st_size),
            "Content-Type": "application/octet-stream",
        }
        with path.open("rb") as file:
            request = urllib.request.Request(f"{self.url}{address}", file, headers)
            try:
                opener.open(request).close()
            except urllib.error.HTTPError as error:
                raise UserError(error.read(1000).decode(errors="replace").strip()) from None
            except OSError as error:
                raise UserError(
                    f"open: the world did not take {path} ({error}); has it ended? connect again"
                ) from None


class Client:
    """One connection. Iterating yields frames, newest wins; messages of the server are kept for
    ``message``."""

    def __init__(self, socket: ClientConnection, site: Address, lobby: Lobby) -> None:
        # name, model, width, height, fps, frames_per_latent, presets, devices, motion
        self.world: dict[str, Any] = {}
        self.role = ""  # "driver" or "viewer"
        self.motion: dict[str, Any] | None = None  # of the newest frame, where the world knows it
        self.link = ""  # what the address allows: "owner", "driver" or "watcher"
        self._socket = socket
        self._lobby = lobby
        self._site = site
        self._held: str | None = None
        self._seq = 0
        self._messages: deque[dict[str, Any]] = deque(maxlen=LATEST_MESSAGES)
        self._frame: Frame | None = None
        self._news = asyncio.Event()
        self._ended = False
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks = [
            asyncio.create_task(work()) for work in (self._receive, self._send, self._repeat)
        ]

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (frame := await self.frame()) is not None:
            yield frame

    async def frame(self) -> Frame | None:
        """The next frame, or None once the connection has ended. Taking one tells the server to
        send on."""
        while self._frame is None:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        frame, self._frame = self._frame, None
        self._say("ack", epoch=frame.header.epoch, frame=frame.header.frame)
        return frame

    async def message(self, *kinds: str) -> dict[str, Any]:
        """Wait for and take the oldest message of a kind ("applied", "stats", "record", ...;
        docs/protocol.md), or of several.

        Raises ConnectionError when the connection ends first.
        """
        while True:
            for message in self._messages:
                if message["type"] in kinds:
                    self._messages.remove(message)
                    return message
            if self._ended:
                wanted = " or ".join(map(repr, kinds))
                raise ConnectionError(
                    f"the connection ended before a message of type {wanted} came"
                )
            self._news.clear()
            await self._news.wait()

    def has(self, kind: str) -> bool:
        """Whether a message of a kind waits to be taken."""
        return any(message["type"] == kind for message in self._messages)

    def hold(self, label: str) -> int:
        """Hold a control label ("D", "DL", ...) until the next call; returns its sequence number,
        which the messages "received" and "applied" name. Raises UserError for an unknown label."""
        label_id(label)
        self._held = label
        return self._input()

    def release(self) -> None:
        """Hold nothing any more: straight on."""
        if self._held is not None:
            self.hold(STRAIGHT_ON)
            self._held = None

    def set_prompt(self, prompt: str) -> None:
        """Change the prompt; messages of type "prompt" tell when frames follow it."""
        self._say("prompt", prompt=prompt)

    def pause(self) -> None:
        self._say("pause")

    def resume(self) -> None:
        self._say("resume")

    def reset(self, seed: int | None = None) -> None:
        """Begin again, with another seed if given."""
        self._say("reset", **({} if seed is None else {"seed": seed}))

    def record(self, on: bool) -> None:
        """Start or stop a recording on the server; the message "record" names its files."""
        self._say("record", on=on)

    def take_control(self) -> None:
        """Become the driver."""
        self._say("take_control")

    def ask_take(self) -> None:
        """Ask for the drive so far; it comes as a message of type "take"."""
        self._say("take")

    def replay(self, seed: int, parts: list[dict[str, str]]) -> None:
        """Drive again: ``parts`` as in the message "take"."""
        self._say("replay", seed=seed, parts=parts)

    def rewind(self, latent: int) -> None:
        """Go back to before this latent; the message "rewound" tells that the world is there."""
        self._say("rewind", latent=latent)

    def undo(self) -> None:
        """Back to where the world stood before the last reset, replay, rewind or opened file."""
        self._say("undo")

    async def moments(self) -> dict[str, Any]:
        """The latent that is ``shown``, and those that are ``kept``: {latent, ago} in seconds."""
        return await self._ask("moments", "moments")

    async def save(self, latent: int | None = None) -> str:
        """Save a moment (None: now) as a file beside the server's recordings; returns its address
        on the site. Raises UserError."""
        return str((await self._ask("saved", "save", **_at(latent)))["file"])

    async def branch(self, latent: int | None = None) -> str:
        """Begin a second world at a moment (None: now); returns its address. Raises UserError."""
        return str((await self._ask("branched", "branch", **_at(latent)))["address"])

    async def open(self, path: str | Path) -> None:
        """Send a .world file and go on from there. Raises UserError."""
        upload = await self._ask("upload", "open")
        await asyncio.to_thread(self._site.post, upload["address"], Path(path))

    async def worlds(self) -> list[Card]:
        """All worlds of this launcher; needs its own address, as it was printed."""
        return await self._lobby.worlds()

    async def new_world(
        self, prompt: str | None = None, seed: int | None = None, name: str | None = None
    ) -> Card:
        """Begin another world, see Lobby.new_world; ``connect(card.driver)`` drives it."""
        return await self._lobby.new_world(prompt, seed, name)

    async def drives(self) -> list[DriveCard]:
        """Drives of earlier launchers that can go on, see Lobby.drives."""
        return await self._lobby.drives()

    async def go_on(self, drive: str) -> Card:
        """Let one go on as another world, see Lobby.go_on."""
        return await self._lobby.go_on(drive)

    async def end(self, world: str) -> None:
        """End the world of this id for everybody in it."""
        await self._lobby.end(world)

    async def close(self) -> None:
        """Leave. Idempotent."""
        await cancel(*self._tasks)
        self._end()
        await self._socket.close()

    def _say(self, kind: str, **fields: Any) -> None:
        self._outbox.put_nowait({"type": kind, **fields})

    async def _ask(self, answer: str, kind: str, **fields: Any) -> dict[str, Any]:
        """Say something and wait for its answer. Raises UserError where it is refused, or the
        connection ends first."""
        while any(message["type"] == "error" for message in self._messages):
            await self.message("error")  # about something else
        self._say(kind, **fields)
        try:
            message = await self.message(answer, "error")
        except ConnectionError:
            raise UserError(
                f"{kind}: the connection ended before it was answered ({self._farewell}); connect again,"
                " or to another world"
            ) from None
        if message["type"] == "error":
            raise UserError(message["message"])
        return message

    @property
    def _farewell(self) -> str:
        """Why the server ended the connection."""
        byes = [message["reason"] for message in self._messages if message["type"] == "bye"]
        return str(byes[-1]) if byes else "nothing was said"

    def _input(self) -> int:
        self._seq += 1
        self._say("input", seq=self._seq, label=self._held, source="client")
        return self._seq

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._socket.send(json.dumps(await self._outbox.get()))

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_SECONDS)
            if self._held is not None:
                self._input()

    async def _receive(self) -> None:
        try:
            async for data in self._socket:
                if isinstance(data, bytes):
                    header, jpeg = unpack_frame(data)
                    self._frame = Frame(header, decode_jpeg(jpeg), time.monotonic())
                else:
                    self._hear(json.loads(data))
                self._news.set()
        except ConnectionClosed:
            pass
        finally:
            self._end()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "welcome":
            self.world, self.link = message["world"], message["link"]
        elif message["type"] == "role":
            self.role = message["role"]
        elif message["type"] == "motion":
            self.motion = message
            return
        self._messages.append(message)

    def _end(self) -> None:
        self._ended = True
        self._news.set()


def _at(latent: int | None) -> dict[str, int]:
    return {} if latent is None else {"latent": latent}


def _printed(url: str) -> SplitResult:
    """An address as launchers print it. Raises UserError."""
    try:
        address = urlsplit(url)
        whole = address.scheme in ("http", "https") and address.hostname and address.port != 0
        if whole and parse_qs(address.query).get("token"):
            return address
    except (ValueError, TypeError, AttributeError):  # a port of five nines; no text at all
        pass
    raise UserError("url: expected the printed address, such as http://127.0.0.1:8000/?token=...")


async def connect(url: str, name: str = "", tls: ssl.SSLContext | None = None) -> Client:
    """Connect to a running world and wait for its welcome.

    ``url`` is the printed one, token included; ``name`` makes the wheel come back after a
    reconnect; ``tls`` is needed for certificates that this machine does not trust. Raises UserError
    when the door stays shut, OSError when nobody is there.
    """
    address = _printed(url)
    tokens = parse_qs(address.query)["token"]
    secure, folder = address.scheme == "https", address.path.rpartition("/")[0] + "/"
    try:
        socket = await connect_socket(
            f"{'wss' if secure else 'ws'}://{address.netloc}{folder}live",
            additional_headers={"Authorization": f"Bearer {tokens[0]}"},
            ssl=(tls or True) if secure else None,
            compression=None,
            max_size=2**24,
            proxy=None,
        )
    except InvalidHandshake as error:
        raise UserError(
            f"the world at {address.netloc} did not let us in ({error}); has it ended, is the token current?"
        ) from None
    await socket.send(json.dumps({"type": "hello", "client": name}))
    site = Address(f"{address.scheme}://{address.netloc}{folder}", tokens[0], tls)
    client = Client(socket, site, Lobby(url, tls))
    try:
        await client.message("welcome")
    except ConnectionError:
        reason = (await client.message("bye"))["reason"] if client._messages else "it said nothing"
        await client.close()
        raise UserError(f"the world at {address.netloc} did not let us in: {reason}") from None
    return client

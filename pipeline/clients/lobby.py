"""A Python client of the lobby: see, begin and end the worlds of a launcher.

    lobby = Lobby("http://127.0.0.1:8000/?token=...")
    card = await lobby.new_world("a red car at night", seed=7)
    async with await connect(card.driver) as world:
        ...

The URL is the one that the program printed. docs/protocol.md describes the requests.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urljoin, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from configs.errors import UserError

ASK_SECONDS: Final = 1.0  # between two questions for the place in the queue
ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Card:
    """One world of a launcher. ``driver`` and ``watcher`` are addresses for ``connect``; ``state`` is
    starting, playing, paused, resting or rebuilding."""

    id: str
    name: str
    prompt: str
    seed: int
    state: str
    driven: bool
    watching: int
    driver: str
    watcher: str


@dataclass(frozen=True)
class DriveCard:
    """A drive of an earlier launcher that can go on: ``seconds`` long, ``ended`` as it was told to
    (else cut off), so many seconds ``ago``. ``name``: of its world, for people."""

    drive: str
    name: str
    prompt: str
    seed: int
    seconds: float
    ended: bool
    ago: float


class Lobby:
    """The worlds of the launcher that printed ``url``. ``tls`` is needed for certificates that this
    machine does not trust. All methods raise UserError for what cannot be done, OSError when nobody
    is there."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._address = urljoin(url, "lobby/")
        self._token = parse_qs(urlsplit(url).query).get("token", [""])[0]
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=tls))

    async def worlds(self) -> list[Card]:
        """Those that live, the launcher's own first."""
        return [self._card(fields) for fields in (await self._ask("GET", "worlds"))["worlds"]]

    async def new_world(
        self, prompt: str | None = None, seed: int | None = None, name: str | None = None
    ) -> Card:
        """Begin a world and return once it is there (it may still load); waits in the queue while
        there is no room. None: the launcher's prompt, a random seed, a name that is made."""
        fields = {"prompt": prompt, "seed": seed, "name": name}
        given = {key: value for key, value in fields.items() if value is not None}
        return await self._asked_for("worlds", json.dumps(given).encode())

    async def open_world(self, path: Path, name: str = "") -> Card:
        """The same, from a world that was saved in a file."""
        content = await asyncio.to_thread(path.read_bytes)
        kind = "application/octet-stream"
        return await self._asked_for(f"worlds?name={quote(name)}", content, kind)

    async def drives(self) -> list[DriveCard]:
        """Drives of earlier launchers that can go on here, the newest first."""
        answer = await self._ask("GET", "drives")
        return [DriveCard(**fields) for fields in answer["drives"]]

    async def go_on(self, drive: str) -> Card:
        """Let one go on as another world, where it was shown last; waits in the queue like
        ``new_world``."""
        return await self._asked_for("worlds", json.dumps({"drive": drive}).encode())

    async def _asked_for(self, path: str, body: bytes, kind: str = "application/json") -> Card:
        answer = await self._ask("POST", path, body, kind)
        while "world" not in answer:
            ticket = f"queue/{answer['ticket']}"
            try:
                await asyncio.sleep(ASK_SECONDS)
                answer = await self._ask("GET", ticket)
            except asyncio.CancelledError:
                await self._ask("DELETE", ticket)
                raise
        return self._card(answer["world"])

    async def end(self, world: str) -> None:
        """End the world of this id for everybody in it."""
        await self._ask("DELETE", f"worlds/{world}")

    def _card(self, fields: dict[str, Any]) -> Card:
        names = ("id", "name", "prompt", "seed", "state", "driven", "watching")
        links = {kind: urljoin(self._address, link) for kind, link in fields["links"].items()}
        return Card(**{name: fields[name] for name in names}, **links)

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "text/plain"
    ) -> dict[str, Any]:
        return await asyncio.to_thread(self._request, method, path, body, kind)

    def _request(self, method: str, path: str, body: bytes | None, kind: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        request = Request(self._address + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                text = answer.read()
        except HTTPError as error:
            raise UserError(_reason(error)) from None
        except HTTPException as error:
            raise ConnectionError(f"no answer that makes sense from {self._address}") from error
        answered: dict[str, Any] = json.loads(text) if text else {}
        return answered


def _reason(error: HTTPError) -> str:
    """What the server says, or what its status means."""
    text = error.read(1000).decode(errors="replace").strip()
    if error.code in (401, 403) or text == "Not Found":  # the page of a world has no lobby
        return "lobby: it needs the launcher's own address, as it was printed, with its token"
    return text or f"lobby: answered {error.code}"

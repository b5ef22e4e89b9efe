"""The lobby: a page and an API over the worlds of a launcher, for who has the launcher's token.

The cookie fetches the page and its files. Whatever tells of worlds or changes them needs the token
itself in the request's header, which no other site and no other port can add."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from configs.errors import UserError
from configs.limits import check_prompt, quoted
from pipeline.beginning import Beginning, fresh_seed
from pipeline.host import PastDrive
from pipeline.hosted_world import HostedWorld
from pipeline.web.access import WORLD_RIGHTS, Access
from pipeline.web.door import ACCESS
from pipeline.web.polling import body_of
from pipeline.web.site import PAGE, static_files
from pipeline.web.sites import Sites
from pipeline.web.uploads import received
from pipeline.worlds import NoRoom, OneWorld, Worlds

Answer = Callable[[Request], Awaitable[Response]]
END_SECONDS = 10.0  # that a request waits for the end of a world
FILE = "application/octet-stream"  # the content type of a saved world
FIELDS = frozenset({"prompt", "seed", "name"})


class LobbyPages:
    """Sees, begins and ends worlds."""

    def __init__(self, worlds: Worlds, sites: Sites) -> None:
        self._worlds = worlds
        self._sites = sites
        self._reading = asyncio.Lock()

    def application(self) -> Starlette:
        """What answers behind the launcher's door."""
        routes = [
            Route("/", self._page),
            Route("/worlds", guarded(self._list), methods=["GET"]),
            Route("/worlds", guarded(self._new), methods=["POST"]),
            Route("/worlds/{name}", guarded(self._end), methods=["DELETE"]),
            Route("/drives", guarded(self._drives), methods=["GET"]),
            Route("/queue/{ticket}", guarded(self._ask_again), methods=["GET"]),
            Route("/queue/{ticket}", guarded(self._leave), methods=["DELETE"]),
            Route("/pictures/{name}", guarded(self._picture), methods=["GET"]),
            Route("/presets/{index:int}", self._sites.own.preset),
            Mount("/static", static_files()),
        ]
        return Starlette(routes=routes)

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "lobby" / "index.html")

    async def _list(self, request: Request) -> Response:
        worlds, info = self._worlds, self._worlds.own.show.info
        answer = {
            "worlds": [self._card(world) for world in worlds],
            "room": worlds.room,
            "most": worlds.most,
            "waiting": worlds.waiting.length(time.monotonic()),
            "model": info.name,
            "presets": list(info.presets),
            "pictures": [f"presets/{index}" for index in range(len(info.pictures))],
        }
        return JSONResponse(answer)

    async def _drives(self, request: Request) -> Response:
        """Drives of earlier launchers that can go on as another world."""
        now, drives = time.time(), await self._worlds.drives()
        return JSONResponse({"drives": [_drive(drive, now) for drive in drives]})

    async def _new(self, request: Request) -> Response:
        """Another world, or a place in the queue for it."""
        kind = request.headers.get("content-type", "")
        if kind == FILE:
            beginning = await self._from_file(request)
        else:
            beginning = await self._parsed(await body_of(request))
        made = await self._worlds.ask(beginning)
        return self._made(made) if isinstance(made, HostedWorld) else await self._queued(made)

    async def _ask_again(self, request: Request) -> Response:
        return await self._queued(request.path_params["ticket"])

    async def _leave(self, request: Request) -> Response:
        if self._worlds.waiting.take(request.path_params["ticket"]) is None:
            return PlainTextResponse("nobody waits with this ticket\n", 404)
        return Response(status_code=204)

    async def _end(self, request: Request) -> Response:
        """Answers when it has ended, its recordings finished."""
        world = self._worlds.end(request.path_params["name"])
        if world is None:
            return PlainTextResponse("no world of that id is here\n", 404)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(world.over.wait(), END_SECONDS)
        return Response(status_code=204)

    async def _picture(self, request: Request) -> Response:
        """What a world shows now; 204 while that is still ``after``."""
        world = self._worlds.get(request.path_params["name"])
        if world is None:
            return PlainTextResponse("no world of that id is here\n", 404)
        picture = self._sites[world.id].picture(request.query_params.get("after", ""))
        if picture is None:
            return Response(status_code=204)
        return Response(picture[1], media_type="image/jpeg", headers={"etag": picture[0]})

    async def _from_file(self, request: Request) -> Beginning:
        """A world that was saved in a file, one at a time. Raises UserError."""
        if self._reading.locked():
            raise NoRoom("another file is being read; try again in a moment")
        async with self._reading:
            opening = await received(request, self._worlds.own.show.past.load)
        moment, name = opening.moment, request.query_params.get("name", "")
        return Beginning(moment.prompt, moment.seed, name, opening)

    async def _parsed(self, text: str) -> Beginning:
        """{"prompt": "...", "seed": 42, "name": "..."}, each of them if it is wanted, or {"drive":
        "..."}. Raises UserError."""
        try:
            fields: Any = json.loads(text or "{}")
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict) and fields.keys() == {"drive"}:
            if not isinstance(journal := fields["drive"], str):
                raise UserError(f"drive: expected text, got {quoted(journal)}")
            return Beginning.again(await self._worlds.drive(journal))
        if not isinstance(fields, dict) or fields.keys() - FIELDS:
            raise UserError(
                "expected a JSON object with prompt, seed and name, or some of them, or with drive"
            )
        name, seed = fields.get("name"), fields.get("seed")
        if not isinstance(name, str | None):
            raise UserError(f"name: expected text, got {quoted(name)}")
        prompt = fields.get("prompt")
        prompt = self._worlds.own.show.prompt if prompt is None else check_prompt(prompt)
        return Beginning(prompt, fresh_seed() if seed is None else seed, name or "")

    async def _queued(self, ticket: str) -> Response:
        made = await self._worlds.ask_again(ticket)
        if made is None:
            return PlainTextResponse("nobody waits with this ticket; ask for a world again\n", 404)
        if isinstance(made, HostedWorld):
            return self._made(made)
        seconds = self._worlds.estimate(made)
        estimate = None if seconds is None else round(seconds, 1)
        return JSONResponse({"ticket": ticket, "place": made, "estimate": estimate}, 202)

    def _made(self, world: HostedWorld) -> Response:
        return JSONResponse({"world": self._card(world)}, 201)

    def _card(self, world: HostedWorld) -> dict[str, Any]:
        """A world in the list. Its links are relative to the lobby's address."""
        show, room = world.show, self._sites[world.id].room
        links = {right: f"../{self._sites.address(world.id, right)}" for right in WORLD_RIGHTS}
        return {
            "id": world.id,
            "name": world.name,
            "own": world.own,
            "prompt": show.prompt,
            "seed": show.seed,
            "state": "resting" if world.resting else show.state,
            "driven": room.driven,
            "watching": room.watching,
            "fps": show.figures.shown.lately(time.monotonic()),
            "seconds": round(time.monotonic() - world.born, 1),
            "links": links,
        }


def _drive(drive: PastDrive, now: float) -> dict[str, Any]:
    """A drive in the list."""
    return {
        "drive": drive.journal,
        "name": drive.whose.name,
        "prompt": drive.prompt,
        "seed": drive.seed,
        "seconds": drive.seconds,
        "ended": drive.ended,
        "ago": round(max(0.0, now - drive.noted), 1),
    }


def guarded(answer: Answer) -> Answer:
    """Only for who has the token itself; what cannot be done is one line and a status."""

    async def answering(request: Request) -> Response:
        access: Access = request.scope[ACCESS]
        if access.bearer(request.headers) is None:
            return PlainTextResponse("this needs the launcher's token as a Bearer token\n", 403)
        try:
            return await answer(request)
        except OneWorld as error:
            return PlainTextResponse(f"{error}\n", 409)
        except NoRoom as error:
            return PlainTextResponse(f"{error}\n", 429)
        except UserError as error:
            return PlainTextResponse(f"{error}\n", 400)

    return answering

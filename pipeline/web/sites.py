"""The sites of all worlds, each behind a door of its own at ``worlds/ID/``."""

import asyncio
from typing import Final
from urllib.parse import quote

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.tasks import Tasks
from pipeline.beginning import Beginning
from pipeline.hosted_world import HostedWorld
from pipeline.stage.past import Opening
from pipeline.web.access import Access, Right
from pipeline.web.door import Door, with_headers
from pipeline.web.site import Site
from pipeline.worlds import Worlds

FOLDER: Final = "worlds"
LAST_WORDS: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="color-scheme" content="dark light"><meta name="viewport" content="width=device-width"><title>Ended</title>
<h1>This world has ended</h1>
<p>Nobody can go on with it here. Ask who gave you the link for another one.</p></html>
"""


async def _ended(request: Request) -> Response:
    return HTMLResponse(LAST_WORDS, 410)


def _with_its_slash(name: str, scope: Scope) -> Response:
    """To the address of a world that was typed without its last letter; relative, because a proxy
    may have put a path before it."""
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse(f"./{quote(name, safe='')}/{'?' if query else ''}{query}")


ENDED: Final = Starlette(routes=[Route("/{path:path}", _ended)])


class Sites:
    """An ASGI application of all worlds that live. A link of one that ended gets one clear page; a
    link that never was gets what every stranger gets."""

    def __init__(self, worlds: Worlds, access: Access) -> None:
        """access: the launcher's, from which the worlds' own are derived."""
        self._worlds = worlds
        self._access = access
        self._sites: dict[str, Site] = {}
        self._doors: dict[str, ASGIApp] = {}
        self._tasks = Tasks()
        self.own = self._site(worlds.own)
        self._open(worlds.own, self.own)
        worlds.opened.append(self._take_in)

    def registries(self) -> dict[str, CollectorRegistry]:
        """The figures of every world, by its id."""
        return {name: site.registry for name, site in self._sites.items()}

    def __getitem__(self, name: str) -> Site:
        return self._sites[name]

    def address(self, name: str, right: Right) -> str:
        """The address of a world with the token of a link, from the launcher's own page."""
        return f"{FOLDER}/{name}/?token={self._access.of_world(name).links[right]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, slash, _ = scope["path"].removeprefix(f"/{FOLDER}/").partition("/")
        if not slash and scope["type"] == "http":  # whoever asks, and whatever is there
            return await _with_its_slash(name, scope)(scope, receive, with_headers(send))
        door = self._doors.get(name) or self._door(name, ENDED)
        inside = {**scope, "root_path": f"{scope.get('root_path', '')}/{FOLDER}/{name}"}
        await door(inside, receive, send)

    async def close(self) -> None:
        """Send everybody away. Idempotent."""
        await self._tasks.cancel()
        await asyncio.gather(*(site.close() for site in self._sites.values()))

    def _take_in(self, world: HostedWorld) -> None:
        """A world begins: it has a site until it ends. The launcher's own keeps it, to say why."""
        if world.own:
            return
        self._open(world, self._site(world))
        self._tasks.start(self._close(world))

    def _site(self, world: HostedWorld) -> Site:
        async def branch(opening: Opening) -> str:
            prompt, seed = opening.moment.prompt, opening.moment.seed
            begun = await self._worlds.new(Beginning(prompt, seed, opening=opening))
            up = "" if world.own else "../../"
            return up + self.address(begun.id, Right.DRIVER)

        many = branch if self._worlds.most > 1 else None
        return Site(world.show, lambda: self._worlds.arrive(world), many)

    def _open(self, world: HostedWorld, site: Site) -> None:
        self._sites[world.id] = site
        self._doors[world.id] = self._door(world.id, site.application())

    async def _close(self, world: HostedWorld) -> None:
        await world.over.wait()
        site = self._sites.pop(world.id)
        del self._doors[world.id]
        await site.close()

    def _door(self, name: str, application: ASGIApp) -> Door:
        return Door(application, self._access.of_world(name), self.own.counters)

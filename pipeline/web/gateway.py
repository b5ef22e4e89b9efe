"""One port: the pages of all worlds, health and figures. Everything else is refused at the doors."""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from pipeline.web.access import Access, Right, address_for_phones
from pipeline.web.door import Door
from pipeline.web.lobby import LobbyPages
from pipeline.web.metrics import all_worlds
from pipeline.web.server import Server, bind
from pipeline.web.sites import FOLDER, Sites
from pipeline.worlds import Worlds


class Gateway:
    """Serves worlds to browsers and programs: the launcher's own at ``/`` for who has the
    launcher's token, and every one at ``worlds/ID/`` for who has a link of it.

    Building it binds the port and so raises UserError when that is taken; nothing is answered
    before ``start``. It works from before a show has loaded until after it ended, and never
    touches signal handlers.
    """

    def __init__(
        self,
        worlds: Worlds,
        *,
        host: str,
        port: int,
        token: str,
        tls: tuple[Path, Path] | None = None,
        names: Iterable[str] = (),
    ) -> None:
        """``tls`` is (certificate chain, key) as PEM files; ``names`` are further host names of
        this machine; port 0 means any free one."""
        self._worlds = worlds
        self._access = Access(token, host, secure=tls is not None, names=names)
        self.sites = Sites(worlds, self._access)
        self._registry = all_worlds(worlds, self.sites.registries)
        self._front = Door(self._application(), self._access, self.sites.own.counters)
        listener = bind(host, port)
        self._host, self.port = host, int(listener.getsockname()[1])
        self._server = Server(self._dispatch, listener, tls)

    @property
    def url(self) -> str:
        """The address to open, with the token: print it, never log it."""
        return self._address({"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host))

    @property
    def phone_url(self) -> str | None:
        """The same for other machines of this network, None where they cannot come in."""
        host = address_for_phones(self._host)
        return None if host is None else self._address(host)

    def _address(self, host: str) -> str:
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        token = self._access.links[Right.OWNER]
        return f"{self._access.scheme}://{host}:{self.port}/?token={token}"

    async def start(self) -> None:
        """Return once the page is served."""
        await self._server.start()

    async def close(self) -> None:
        """Send everybody away and free the port. Idempotent."""
        await self.sites.close()
        await self._server.close()

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["path"].startswith(f"/{FOLDER}/")
        await (self.sites if inside else self._front)(scope, receive, send)

    def _application(self) -> Starlette:
        """What the launcher's token opens."""
        routes = [
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
            Route("/lobby", self._to_lobby),
            Mount("/lobby", LobbyPages(self._worlds, self.sites).application()),
            Mount("/", self.sites.own.application()),
        ]
        return Starlette(routes=routes)

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _ready(self, request: Request) -> Response:
        ready = any(world.show.ready for world in self._worlds)
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    async def _to_lobby(self, request: Request) -> Response:
        """Typed without its last letter; relative, as everything behind a proxy has to be."""
        return RedirectResponse(f"lobby/?{request.url.query}")

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

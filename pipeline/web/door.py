"""The door: every request passes here first. Host, Origin and token are checked; answers get their
security headers."""

from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.access import SECURITY_HEADERS, Access
from pipeline.web.counters import Counters

OPEN_TO_ALL = frozenset({"/healthz", "/readyz"})  # one word each, for probes that hold no token
LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="dark light">
<meta name="viewport" content="width=device-width"><title>Locked</title>
<h1>This world needs its key</h1>
<p>Open the whole address that the program printed; it ends in <code>?token=…</code></p>
<p><a href="/">Try again</a></p></html>
"""


class Door:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, access: Access, counters: Counters) -> None:
        self._app = app
        self._access = access
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is not None and scope["type"] == "websocket":
            await send(
                {"type": "websocket.close", "code": 1008}
            )  # before it is accepted: a plain 403
        elif refusal is not None:
            await refusal(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer that ends this request here, or None to let it in."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else None
        if host is None or not self._access.host_allowed(host):
            return self._refuse(
                "host", PlainTextResponse("this host name is not served here\n", 403)
            )
        if scope["type"] == "websocket":
            return self._refused_socket(headers, host)
        if scope["path"] in OPEN_TO_ALL:
            return None
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and tokens:
            if not self._access.token_matches(tokens[0]):
                return self._refuse("token", HTMLResponse(LOCKED, 401))
            return self._exchanged(host)
        if not self._access.admits(headers):
            return self._refuse("token", HTMLResponse(LOCKED, 401))
        return None

    def _refused_socket(self, headers: Headers, host: str) -> Response | None:
        origin = headers.get("origin")
        program = origin is None and self._access.has_bearer(headers)
        if not program and not self._access.origin_allowed(origin, host):
            return self._refuse("origin", PlainTextResponse("this origin may not connect\n", 403))
        if not program and not self._access.admits(headers):
            return self._refuse("token", PlainTextResponse("no valid key\n", 403))
        return None

    def _exchanged(self, host: str) -> Response:
        """The token of the printed address becomes a cookie; the address bar and the history keep
        none of it."""
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._access.cookie_name(host),
            self._access.cookie_value,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._access.scheme == "https",
        )
        return response

    def _refuse(self, what: str, response: Response) -> Response:
        self._counters.refused.labels(what).inc()
        return response


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
        await send(message)

    return sending

"""The door: every request to an application passes here first. Host, Origin and token are checked;
answers get their security headers."""

import logging
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.access import Access, cookie_value
from pipeline.web.metrics import Counters

logger = logging.getLogger(__name__)
OPEN_TO_ALL = frozenset({"/healthz", "/readyz"})  # one word each, for probes that hold no token
PAGES = frozenset({"/", "/lobby/"})  # whose addresses may bring a token
ACCESS = "matrix.access"  # where a scope says by which door it came in
FOREIGN_HOST = "this host name is not served here; if it is yours: --allow-host and the name\n"
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="dark light">
<meta name="viewport" content="width=device-width"><title>Locked</title>
<h1>This world needs its key</h1>
<p>Open the whole address that the program printed; it ends in <code>?token=…</code></p>
<p><a href="./">Try again</a></p></html>
"""


class Door:
    """ASGI middleware around an application that one Access guards."""

    def __init__(self, app: ASGIApp, access: Access, counters: Counters) -> None:
        self._app = app
        self._access = access
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        scope = {**scope, ACCESS: self._access}
        if refusal is not None and scope["type"] == "websocket":
            # before it is accepted: a plain 403
            await send({"type": "websocket.close", "code": 1008})
        elif refusal is not None:
            await refusal(scope, receive, with_headers(send))
        else:
            await self._app(scope, receive, with_headers(send, self._cookie(scope)))

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer that ends this request here, or None to let it in."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else None
        if host is None or not self._access.host_allowed(host):
            return self._refuse("host", PlainTextResponse(FOREIGN_HOST, 403))
        if scope["type"] == "websocket":
            return self._refused_socket(headers, host)
        if scope["path"] in OPEN_TO_ALL:
            return None
        token = _printed_token(scope)
        admitted = self._access.admits(headers) if token is None else self._access.right_of(token)
        return None if admitted else self._refuse("token", HTMLResponse(LOCKED, 401))

    def _refused_socket(self, headers: Headers, host: str) -> Response | None:
        """Only a first sieve: the gateway asks for the token in the first message. That replaces
        the Origin for pages, because a tunnel may rename it; a program has none."""
        origin = headers.get("origin")
        if self._access.has_cookie(headers):
            return None
        if self._access.bearer(headers) is None:
            return self._refuse("token", PlainTextResponse("no valid key\n", 403))
        if origin is not None and not self._access.origin_allowed(origin, host):
            return self._refuse("origin", PlainTextResponse("this origin may not connect\n", 403))
        return None

    def _cookie(self, scope: Scope) -> str | None:
        """The Set-Cookie of an answer to the printed address. It is the page itself and no
        redirect: browsers would send no strict cookie along a redirect that began at a link on
        another site. Without a path it belongs to the folder the browser sees, so that a world
        behind /proxy/8000/ shows its cookie to nobody beside it."""
        token = _printed_token(scope) if scope["type"] == "http" else None
        if token is None:
            return None
        cookie = Response()
        cookie.set_cookie(
            self._access.cookie_name(Headers(scope=scope).get("host", "")),
            cookie_value(token),
            path=None,
            httponly=True,
            samesite="strict",
            secure=self._access.scheme == "https",
        )
        return cookie.headers["set-cookie"]

    def _refuse(self, what: str, response: Response) -> Response:
        logger.info("refused a request: %s", what)
        self._counters.refused.labels(what).inc()
        return response


def _printed_token(scope: Scope) -> str | None:
    """The token in the address of the page, if it is asked for by its printed address."""
    if scope["path"].removeprefix(scope.get("root_path", "")) not in PAGES:
        return None
    tokens = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return tokens.get("token", [None])[0]


def with_headers(send: Send, cookie: str | None = None) -> Send:
    """Send answers with the headers that all of ours have."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if cookie is not None:
                headers["set-cookie"] = cookie
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
        await send(message)

    return sending

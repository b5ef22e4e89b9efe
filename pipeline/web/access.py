"""Who may talk to the gateway: one token, a Host allow-list and an exact Origin. Decisions only, no
HTTP framework.

The token arrives once in the printed URL. The page keeps it and gets a cookie beside it; programs
send it as a Bearer token instead. The cookie fetches files. It opens no live connection: browsers
hand the cookies of one port to every other port of the same host, and to the servers there. Who
wants to drive or watch proves that it has the token itself, which only the page and programs hold.
The Host allow-list defeats DNS rebinding.
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Mapping

import psutil

from configs.errors import UserError

SHORTEST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """The gateway's door. ``host`` is the bind address; ``names`` are further host names people may
    type."""

    def __init__(self, token: str, host: str, *, secure: bool, names: Iterable[str] = ()) -> None:
        if (
            len(token) < SHORTEST_TOKEN
            or not (token.isascii() and token.isprintable())
            or " " in token
        ):
            raise UserError(
                f"access token: expected at least {SHORTEST_TOKEN} printable ASCII characters without spaces, "
                f"got {len(token)} characters; leave it out to have one made"
            )
        self._token = token
        self.scheme = "https" if secure else "http"
        self._names = {name.lower() for name in names}
        self.hosts = LOOPBACK_NAMES | _reachable_names(host) | self._names

    def host_allowed(self, host: str | None) -> bool:
        """Whether a Host header names this machine. Any port will do: a tunnel (ssh -L) may use
        another."""
        return host is not None and _split_host(host)[0] in self.hosts

    def origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Whether a browser's Origin is this very page: same scheme, name and port as the Host it
        asked for.

        A name that was given may be that of a proxy which speaks TLS for us: there https will do as
        well."""
        schemes = (
            {self.scheme, "https"} if _split_host(host or "")[0] in self._names else {self.scheme}
        )
        return host is not None and origin in {f"{scheme}://{host}" for scheme in schemes}

    def token_matches(self, candidate: str) -> bool:
        return hmac.compare_digest(candidate.encode(errors="replace"), self._token.encode())

    def cookie_name(self, host: str) -> str:
        """Named after the port the browser sees, so that two worlds on one machine do not evict
        each other."""
        return f"matrix_{_split_host(host)[1] or {'http': 80, 'https': 443}[self.scheme]}"

    @property
    def cookie_value(self) -> str:
        """Derived from the token, not the token itself; the same after a restart, so pages come
        back by themselves."""
        return hmac.new(self._token.encode(), b"matrix page cookie", hashlib.sha256).hexdigest()

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the cookie of a signed-in page or the Bearer token of a
        program."""
        return self.has_bearer(headers) or self.has_cookie(headers)

    def proves(self, headers: Mapping[str, str], hello: Mapping[str, object]) -> bool:
        """Whether a client's first message, or its Bearer header, carries the token: no browser
        adds either by itself, so no other site and no other port can borrow them."""
        token = hello.get("token")
        return self.has_bearer(headers) or (isinstance(token, str) and self.token_matches(token))

    def has_bearer(self, headers: Mapping[str, str]) -> bool:
        kind, _, credential = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.token_matches(credential.strip())

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        wanted = self.cookie_name(headers.get("host", ""))
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        values = [value.encode(errors="replace") for name, _, value in pairs if name == wanted]
        return any(hmac.compare_digest(value, self.cookie_value.encode()) for value in values)


def _split_host(host: str) -> tuple[str, str]:
    """A Host header as (lower-case name without brackets, port or "")."""
    name, separator, port = host.rpartition(":")
    if not separator or not port.isdecimal():
        name, port = host, ""
    return name.removeprefix("[").removesuffix("]").lower(), port


def _reachable_names(host: str) -> frozenset[str]:
    """Names and addresses under which a bind address is reached: off loopback also by the machine's
    own names, and for a wildcard at every interface."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return frozenset({host.lower()})
    if address.is_loopback:
        return frozenset({host})
    own = socket.gethostname().lower()
    names = {own, own.split(".")[0], f"{own.split('.')[0]}.local", socket.getfqdn().lower()}
    if not address.is_unspecified:
        return frozenset({host.lower()} | names)
    return frozenset(
        names
        | {each.address.split("%")[0] for link in psutil.net_if_addrs().values() for each in link}
    )

"""Who may talk to the gateway: tokens, a Host allow-list and an exact Origin. Decisions only, no HTTP
framework.

The launcher has one token. Each world has two of its own, derived from it: a driver's and a
watcher's, which open nothing else. A token arrives once in the URL that was printed or handed on.
The page keeps it and gets a cookie beside it; programs send it as a Bearer token instead. The
cookie fetches files. It opens no live connection: browsers hand the cookies of one port to every
other port of the same host, and to the servers there. Who wants to drive or watch proves that it
has the token itself, which only the page and programs hold. The Host allow-list defeats DNS
rebinding.
"""

import base64
import copy
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from enum import StrEnum

import psutil

from configs.errors import UserError

SHORTEST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class NoKey(UserError):
    """No token came, or one that opens nothing here."""


class Right(StrEnum):
    """What a token allows; each also what those after it allow."""

    OWNER = "owner"  # the launcher's: its own world, and the lobby of all
    DRIVER = "driver"
    WATCHER = "watcher"


WORLD_RIGHTS = (Right.DRIVER, Right.WATCHER)  # each world has a link for each


class Access:
    """One door: the launcher's, or one world's. ``host`` is the bind address; ``names`` are further
    host names people may type."""

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
        self.links: Mapping[Right, str] = {Right.OWNER: token}
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

    def of_world(self, name: str) -> "Access":
        """The door of one world, which has nothing in common with this one but the names of the
        machine. The same after a restart with the same token and name."""
        token = self.links[Right.OWNER]
        door = copy.copy(self)
        door.links = {right: _derived(token, f"{right} of {name}") for right in WORLD_RIGHTS}
        return door

    def right_of(self, candidate: str) -> Right | None:
        """What a token allows here; None for one of another door."""
        given = candidate.encode(errors="replace")
        for right, token in self.links.items():
            if hmac.compare_digest(given, token.encode()):
                return right
        return None

    def cookie_name(self, host: str) -> str:
        """Named after the port the browser sees, so that two worlds on one machine do not evict
        each other."""
        return f"matrix_{_split_host(host)[1] or {'http': 80, 'https': 443}[self.scheme]}"

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the cookie of a signed-in page or the Bearer token of a
        program."""
        return self.bearer(headers) is not None or self.has_cookie(headers)

    def proven(self, headers: Mapping[str, str], hello: Mapping[str, object]) -> Right | None:
        """What the token in a client's first message, or in its Bearer header, allows: no browser
        adds either by itself, so no other site and no other port can borrow them."""
        token = hello.get("token")
        return self.bearer(headers) or (self.right_of(token) if isinstance(token, str) else None)

    def bearer(self, headers: Mapping[str, str]) -> Right | None:
        """What a program's Bearer token allows."""
        kind, _, credential = headers.get("authorization", "").partition(" ")
        return self.right_of(credential.strip()) if kind.lower() == "bearer" else None

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        wanted = self.cookie_name(headers.get("host", ""))
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        values = [value.encode(errors="replace") for name, _, value in pairs if name == wanted]
        ours = [cookie_value(token).encode() for token in self.links.values()]
        return any(hmac.compare_digest(value, one) for value in values for one in ours)


def cookie_value(token: str) -> str:
    """Derived from the token, not the token itself; the same after a restart, so pages come back by
    themselves."""
    return hmac.new(token.encode(), b"matrix page cookie", hashlib.sha256).hexdigest()


def _derived(token: str, purpose: str) -> str:
    """Another token, which tells nothing about ``token``."""
    digest = hmac.new(token.encode(), f"matrix {purpose}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode()


def _split_host(host: str) -> tuple[str, str]:
    """A Host header as (lower-case name without brackets, port or "")."""
    name, separator, port = host.rpartition(":")
    if not separator or not port.isdecimal():
        name, port = host, ""
    return name.removeprefix("[").removesuffix("]").lower(), port


def address_for_phones(host: str) -> str | None:
    """The address under which other machines of this network reach a bind address; None where they
    do not, or nobody knows."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not address.is_unspecified:
        return None if address.is_loopback else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # chooses a way out; nothing is sent
        except OSError:
            return None
        return str(probe.getsockname()[0])


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

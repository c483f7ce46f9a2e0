"""Which address a request comes from: one rule for every app.

A header that clients can write counts only when a proxy that the settings trust has sent it, and is read from its end: there
each proxy has put whom it saw. The rest of it anybody may have made up.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

UNKNOWN = "unknown"

Network = IPv4Network | IPv6Network


class Forwarded:
    """Puts the address, and the scheme that a trusted proxy says it was asked by, into the scope: the outermost layer."""

    def __init__(self, app: ASGIApp, *, addresses: "Addresses") -> None:
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            address, port = self._addresses.of(scope), (scope.get("client") or (UNKNOWN, 0))[1]
            if self._addresses.trusts(scope):
                said = {name: value for name, value in scope["headers"] if name == b"x-forwarded-proto"}
                if (scheme := said.get(b"x-forwarded-proto", b"").decode("latin-1").strip().lower()) in ("http", "https"):
                    scope = {**scope, "scheme": scheme}
            scope = {**scope, "client": (address, port)}
        await self._app(scope, receive, send)


class Addresses:
    """Finds the address that a request comes from: X-Forwarded-For counts only when a trusted proxy says it."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._group = lru_cache(maxsize=4096)(_group)
        self._is_trusted = lru_cache(maxsize=4096)(self._lies_within)

    def of(self, scope: Scope) -> str:
        """Return the client's address; of IPv6 the network of 64 bits, since a client may have all of that."""
        client = scope.get("client")
        peer: str = client[0] if client else UNKNOWN
        if self._trusted and self._is_trusted(peer):
            values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            for hop in reversed(b",".join(values).decode("latin-1").split(",")):
                address = _without_port(hop.strip())
                if not _is_address(address):
                    break  # whoever wrote this is the last one that can be believed
                peer = address
                if not self._is_trusted(peer):
                    break
        return peer if ":" not in peer else self._group(peer)

    def trusts(self, scope: Scope) -> bool:
        """Tell whether the request comes by way of a trusted proxy."""
        client = scope.get("client")
        return bool(self._trusted and client and self._is_trusted(client[0]))

    def _lies_within(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed.version == network.version and parsed in network for network in self._trusted)


def _group(address: str) -> str:
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    return str(parsed.ipv4_mapped or parsed.exploded[:19])


def _without_port(hop: str) -> str:
    """Return the address of `1.2.3.4:80` and `[::1]:80`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

"""The client address of a request: one rule for every app and every limit.

A forwarding header counts only when a trusted proxy sent it. It is read from the right: each proxy appends the address that
it sees, so the first address from the right that is no trusted proxy is the client. `Forwarded` (RFC 7239) is read where
there is no `X-Forwarded-For`. A proxy that sends `Forwarded` alone must remove the other header.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

UNKNOWN = "unknown"
FORWARDED, FORWARDED_FOR, FORWARDED_PROTO = b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"
_FOR = re.compile(r'(?:^|;)\s*for="?([^";]*)"?', re.IGNORECASE)

Network = IPv4Network | IPv6Network


class Addresses:
    """Finds the client address of a request. `trusted` are the networks of the proxies."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self.group = lru_cache(maxsize=4096)(_group)
        self.is_trusted = lru_cache(maxsize=4096)(self._lies_within)

    def of(self, scope: Scope) -> str:
        """Return the client's address; for IPv6 its network of 64 bits, since one client may own all of that."""
        client = scope.get("client")
        peer: str = client[0] if client else UNKNOWN
        if self._trusted and self.is_trusted(peer):
            for hop in _hops(scope):
                address = _without_port(hop)
                if not _is_address(address):
                    break  # the writer of this hop is the last one that can be believed
                peer = address
                if not self.is_trusted(peer):
                    break
        return peer if ":" not in peer else self.group(peer)

    def _lies_within(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed.version == network.version and parsed in network for network in self._trusted)


class Addressed:
    """Puts the client's address, and the scheme that a trusted proxy received, into the scope.

    `state.local` is true when the client is on this machine with no proxy in between, not even an untrusted one.
    """

    def __init__(self, app: ASGIApp, *, addresses: Addresses) -> None:
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and (client := scope.get("client")):
            forwarded = any(name in (FORWARDED, FORWARDED_FOR) for name, _ in scope["headers"])
            scope.setdefault("state", {})["local"] = not forwarded and _is_loopback(client[0])
            if self._addresses.is_trusted(client[0]):
                proto = next((value for name, value in scope["headers"] if name == FORWARDED_PROTO), b"")
                if proto in (b"http", b"https"):
                    scope["scheme"] = proto.decode()
            scope["client"] = (self._addresses.of(scope), client[1])
        await self._app(scope, receive, send)


def _hops(scope: Scope) -> Iterator[str]:
    """Yield the hops that proxies wrote, the last one first."""
    headers = scope["headers"]
    if values := [value for name, value in headers if name == FORWARDED_FOR]:
        yield from (hop.strip() for hop in reversed(b",".join(values).decode("latin-1").split(",")))
        return
    elements = b",".join(value for name, value in headers if name == FORWARDED).decode("latin-1")
    for element in reversed(elements.split(",")) if elements else ():
        found = _FOR.search(element.strip())
        yield found[1].strip() if found else ""


def _group(address: str) -> str:
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address if _is_address(address) else UNKNOWN
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


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ip_address(text.removeprefix("::ffff:")).is_loopback

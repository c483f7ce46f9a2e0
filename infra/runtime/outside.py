"""The one way outside: sends a message to a receiver, if its address may be sent to at the moment of connecting.

The name is resolved once, and the connection goes to the checked address: a name that is resolved again (DNS rebinding) is never
used. No redirects, no proxies of the environment, no cookies, no more of an answer than its beginning.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from events.errors import InvalidRequest
from producers.outside import Answer, Network, refusal, target

TEXT_MAX = 2000
ANSWER_BYTES = 4 * TEXT_MAX
"""Bytes of an answer that are read: no character has more than four."""
CONNECTIONS_MAX = 100
CONNECTIONS_PER_HOST = 20
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Refused(OSError):
    """Nothing may be sent to this address."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _Guard(AbstractResolver):
    """Resolves names to addresses that may be sent to."""

    def __init__(self, outside: "Outside", find: Resolve) -> None:
        self._outside = outside
        self._find = find

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return all addresses of a name; raise Refused when one of them may not be sent to."""
        addresses = await self._find(host, port)
        for address in addresses:
            self._outside.check(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Outside:
    """Sends messages; one per process. `allowed` names networks that are not outside and may be sent to all the same."""

    def __init__(self, allowed: Sequence[Network], timeout_s: float, *, find: Resolve = resolve) -> None:
        self.allowed = tuple(allowed)
        self.timeout_s = timeout_s
        self._find = find
        self._session: aiohttp.ClientSession | None = None

    def check(self, address: str) -> None:
        """Raise Refused for an address that may not be sent to."""
        if reason := refusal(ipaddress.ip_address(address.partition("%")[0]), self.allowed):
            raise Refused(reason)

    async def check_url(self, url: str) -> str:
        """Return the origin of an address that a person gives. Raises InvalidRequest when nothing may be sent there now.

        A name that cannot be resolved now is accepted: it is checked again before each connection.
        """
        found = target(url, self.allowed)
        if found.address is None:
            try:
                async with asyncio.timeout(self.timeout_s):
                    addresses = await self._find(found.host, 443)
            except (OSError, TimeoutError):
                return found.origin
            try:
                for address in addresses:
                    self.check(address)
            except Refused as error:
                raise InvalidRequest(f"{found.host} leads to {error}; the setting webhook_networks allows some") from error
        return found.origin

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message once; return the answer, or the reason why there is none."""
        began = perf_counter()

        def without(error: str) -> Answer:
            return Answer(None, error, duration_ms=round((perf_counter() - began) * 1000))

        try:
            target(url, self.allowed)
            async with self._opened().post(
                URL(url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            ) as response:
                text = await _beginning(response)
                return Answer(
                    response.status,
                    text=text,
                    duration_ms=round((perf_counter() - began) * 1000),
                    retry_after_s=retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)),
                    error="" if 200 <= response.status < 300 else f"the endpoint answered {response.status}",
                )
        except InvalidRequest as error:
            return without(str(error))
        except TimeoutError:
            return without(f"no answer within {self.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", None)  # aiohttp wraps the reason that a person needs
            return without(str(cause) if isinstance(cause, Refused) else f"{type(error).__name__}: {error}"[:300])

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Guard(self, self._find),
                use_dns_cache=False,
                limit=CONNECTIONS_MAX,
                limit_per_host=CONNECTIONS_PER_HOST,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """Return the socket of a connection, after a last look at where it goes."""
        family, kind, proto, _, sockaddr = info
        self.check(str(sockaddr[0]))
        return socket.socket(family, kind, proto)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """Return the first characters of a body. The connection of a longer one is closed."""
    found = bytearray()
    while len(found) < ANSWER_BYTES and (part := await response.content.read(ANSWER_BYTES - len(found))):
        found += part
    if not response.content.at_eof():
        response.close()
    return bytes(found).decode(errors="replace")[:TEXT_MAX]


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return the seconds of a header Retry-After, in seconds or as a date; None for another text."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())

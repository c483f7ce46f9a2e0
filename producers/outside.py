"""Addresses outside: which ones the platform may send to, decided by the address itself. Pure.

A receiver's address comes from a person and may name this machine, its network or the metadata service of its cloud. Such addresses
are refused however they are spelled: when they are saved, and again for the address that a name has when it is connected to.
"""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from events.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
URL_MAX = 2000
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's own service, a public address
            "192.0.0.0/24",  # of protocols, and the metadata of one cloud
            "192.88.99.0/24",  # relays of 6to4
            "::/96",  # IPv4-compatible IPv6
            "64:ff9b:1::/48",  # NAT64 of a local network
            "100::/64",
            "2001::/32",  # Teredo, which carries an IPv4 address
            "2002::/16",  # 6to4, which does, too
            "fec0::/10",
        ),
    )
)
"""Networks that Python counts as global, and that are not, or may lead to some that are not."""
PRIVATE_NAMES = re.compile(r"(^|\.)(localhost|local|internal|intranet|lan|home|corp|localdomain|home\.arpa)$")
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62})(\.[a-z0-9_-]{1,63})*", re.ASCII)


class Target(NamedTuple):
    """The host of an address, as it will be connected to. `address` is None for a name."""

    origin: str
    host: str
    address: Address | None


@dataclass(frozen=True)
class Answer:
    """The answer of a receiver. `status` is None when there was none, and `error` says why; `text` is the beginning of its body."""

    status: int | None
    error: str = ""
    text: str = ""
    duration_ms: int = 0
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has taken the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_away(self) -> bool:
        """Whether the receiver could not take any message now. Otherwise, it refused this one."""
        return self.status is None or self.status in (408, 425, 429, 502, 503, 504)


def refusal(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """Return the reason why nothing is sent to an address; None when it is outside, or in an allowed network."""
    inner = _inner(address)
    if any(one.version == network.version and one in network for one in (address, inner) for network in allowed):
        return None
    outside = inner.is_global and not (inner.is_multicast or inner.is_reserved or inner.is_unspecified)
    if outside and not any(inner.version == network.version and inner in network for network in REFUSED):
        return None
    return f"{address} is an address of this machine, of a private network or of no host"


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


def target(url: str, allowed: Sequence[Network] = ()) -> Target:
    """Return the target of an address. Raises InvalidRequest for one that nothing may be sent to."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise InvalidRequest(f"the address is not a URL: {error}") from error
    if (
        len(url) > URL_MAX
        or parts.scheme not in ("http", "https")
        or not host
        or not url.isprintable()
        or " " in url
        or "\\" in url
    ):
        raise InvalidRequest(
            f"the address must be an http(s):// URL of at most {URL_MAX} characters, such as https://example.org/hook"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("the address must have no user and no password; send a header instead")
    if parts.fragment:
        raise InvalidRequest("the address must have no fragment (#…)")
    plain, address = _spelled(host)
    if address is not None:
        if reason := refusal(address, allowed):
            raise InvalidRequest(f"{reason}; the setting webhook_networks allows some")
    elif not _NAME.fullmatch(plain) or len(plain) > 253:
        raise InvalidRequest(f"{plain[:100]} is not the name of a host")
    elif PRIVATE_NAMES.search(plain) and not allowed:
        raise InvalidRequest(f"{plain} is a name of this machine or of a private network; the setting webhook_networks allows some")
    shown = f"[{address}]" if address is not None and address.version == 6 else str(address or plain)
    return Target(f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), str(address or plain), address)


def _spelled(host: str) -> tuple[str, Address | None]:
    """Return a host in its plain spelling, and the address that it is, if it is one.

    `0x7f.1`, `2130706433`, `127。0。0。1`, `①②⑦.⓪.⓪.①` and `%31%32%37.0.0.1` are 127.0.0.1 for some program on the way.
    """
    plain = unicodedata.normalize("NFKC", unquote(host)).replace("。", ".").rstrip(".").casefold()
    with suppress(ValueError):
        return plain, ipaddress.ip_address(plain.partition("%")[0])
    with suppress(OSError, ValueError):
        return plain, ipaddress.IPv4Address(socket.inet_aton(plain))  # which takes what old programs take
    try:
        return plain.encode("idna").decode().casefold(), None
    except UnicodeError as error:
        raise InvalidRequest(f"{plain[:100]} is not the name of a host") from error

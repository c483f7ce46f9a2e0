"""How often one address may come, and which address that is. What is kept is a keyed hash, in memory, for seconds."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

ENTRIES_MAX = 200_000
"""Addresses remembered at most, about 30 MB; beyond, the least recent half is forgotten early."""
UNKNOWN = "unknown"

Network = IPv4Network | IPv6Network


class Limiter:
    """The generic cell rate algorithm: `burst` at once, then one each 60 / `per_minute` seconds.

    An address takes one number, the moment at which its burst would be whole again; past that moment it is as if it had
    never come. So addresses live in two generations, and the older one is dropped when all in it are whole.
    """

    def __init__(self, per_minute: float, burst: int, salt: bytes, *, entries_max: int = ENTRIES_MAX) -> None:
        self._interval_s = 60.0 / per_minute
        self._tolerance_s = self._interval_s * (burst - 1)
        self._lifetime_s = self._interval_s * burst
        self._salt = salt
        self._generation_max = max(entries_max // 2, 1)
        self._young: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._turned_at = 0.0

    def wait_s(self, address: str, now: float) -> float:
        """Count a request; return 0 when it may pass, else the seconds until the next one may. `now` is monotonic."""
        key = blake2b(address.encode(), digest_size=8, key=self._salt).digest()
        young = self._young
        if now - self._turned_at > self._lifetime_s or len(young) >= self._generation_max:
            self._old, self._young, self._turned_at = young, {}, now
            young = self._young
        whole_at = young.get(key)
        if whole_at is None:
            whole_at = self._old.get(key, now)
        if whole_at < now:
            whole_at = now
        early_s = whole_at - now - self._tolerance_s
        if early_s > 1e-9:
            return early_s
        young[key] = whole_at + self._interval_s
        return 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


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

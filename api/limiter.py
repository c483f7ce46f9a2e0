"""Rate limit per address. The limiter keeps a hash of the address, in memory, for seconds."""

from hashlib import blake2b

ENTRIES_MAX = 200_000
"""Maximum number of addresses remembered, about 30 MB; beyond it the least recent half is forgotten early."""


class Limiter:
    """The generic cell rate algorithm: `burst` at once, then one each 60 / `per_minute` seconds.

    One number is kept per address: the moment at which its burst is whole again. Past that moment the address counts as new.
    So addresses live in two generations, and the older one is dropped when all its bursts are whole. `salt` keys the hash
    where trying all addresses must not reveal one. `now` is monotonic, seconds.
    """

    def __init__(self, per_minute: float, burst: int, salt: bytes = b"", *, entries_max: int = ENTRIES_MAX) -> None:
        self.use(per_minute, burst)
        self._salt = salt
        self._generation_max = max(entries_max // 2, 1)
        self._young: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._turned_at = 0.0

    def use(self, per_minute: float, burst: int) -> None:
        """Apply other limits from now on; requests that were counted stay counted."""
        self._interval_s = 60.0 / per_minute
        self._tolerance_s = self._interval_s * (burst - 1)
        self._lifetime_s = self._interval_s * burst

    def wait_s(self, address: str, now: float) -> float:
        """Count a request; return 0 when it may pass, else the seconds until the next one may."""
        key = self._key(address)
        young = self._young
        if now - self._turned_at > self._lifetime_s or len(young) >= self._generation_max:
            self._old, self._young, self._turned_at = young, {}, now
            young = self._young
        whole_at = self._whole_at(key, now)
        early_s = whole_at - now - self._tolerance_s
        if early_s > 1e-9:
            return early_s
        young[key] = whole_at + self._interval_s
        return 0.0

    def would_wait_s(self, address: str, now: float) -> float:
        """Return the result of `wait_s`, without counting a request."""
        early_s = self._whole_at(self._key(address), now) - now - self._tolerance_s
        return early_s if early_s > 1e-9 else 0.0

    def give_back(self, address: str, now: float) -> None:
        """Take back the count of the last request that passed."""
        key = self._key(address)
        self._young[key] = self._whole_at(key, now) - self._interval_s

    def _key(self, address: str) -> bytes:
        return blake2b(address.encode(), digest_size=8, key=self._salt).digest()

    def _whole_at(self, key: bytes, now: float) -> float:
        whole_at = self._young.get(key)
        if whole_at is None:
            whole_at = self._old.get(key, now)
        return max(whole_at, now)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

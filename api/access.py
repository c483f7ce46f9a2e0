"""Worker keys: present, prove, remember, issue, rotate and revoke.

A key is proven once; then its digest is remembered, so that later requests cost no hash. `follow` compares the remembered
keys with the table twice a second: a revocation bites within a second wherever it was written, and no request waits for the
comparison. The log reports revocations, too (`forget`): while the table cannot be read, keys proven before stay good and all
others are refused.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from starlette.exceptions import HTTPException

from api.cookies import digest_of
from api.limits import Attempts
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import NotFound, Retryable, Stalled
from events.kinds import JobKind
from events.pulse import Pulse
from events.workers import WorkerKeyRotated
from producers.keys import KEY_CHARS, PREFIX_CHARS, Key, hashed, issued, key_revoked, make, proves
from producers.workers import worker_event

COMPARED_EVERY_S = 0.4
COMPARED_WITHIN_S = 0.8
"""Maximum age of the last comparison before a request waits for the next one, unless the table is away."""
PATIENCE_S = 1.0
"""A table that takes longer counts as away."""
CHANGES_S = 10.0
"""Overlap between two queries for changes: a transaction may become visible later than its timestamp."""
AWAY_MAX_S = 366 * 24 * 3600.0
PUBLISH_EVERY_S = 2.0
USED_EVERY_S = 30.0
REMEMBERED_MAX = 20_000
PROOFS_AT_ONCE = 2
"""A proof takes 64 MiB and a core for a tenth of a second."""
log = structlog.get_logger(__name__)


class Keys(Protocol):
    """The table of keys, implemented by `infra.runtime.worker_keys.KeyTable`. Every method raises Retryable when it is away."""

    async def add(self, key: Key, hash_: str) -> None: ...
    async def with_prefix(self, prefix: str) -> list[tuple[Key, str]]: ...
    async def changed(self, seconds: float) -> set[str]: ...
    async def revoke(self, which: str, now: datetime, reason: str) -> list[Key]: ...
    async def unpublished(self) -> list[tuple[Key, str]]: ...
    async def mark_published(self, key_ids: Collection[str]) -> None: ...
    async def expire(self, key_id: str, at: datetime) -> None: ...
    async def used(self, key_ids: Collection[str], now: datetime) -> None: ...
    async def listing(self, limit: int) -> Sequence[Key]: ...


class Denied(HTTPException):
    """A key was refused; `reason` goes into the audit."""

    def __init__(self, reason: str, detail: str, key: Key | None = None, status: int = 401) -> None:
        headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}}
        super().__init__(status, detail, headers=headers.get(status))
        self.reason = reason
        self.key = key


class Access:
    """The keys of one process."""

    def __init__(
        self,
        keys: Keys,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]],
        context: Callable[[], Context],
    ) -> None:
        self._keys = keys
        self._append = append
        self._context = context
        self._proven: OrderedDict[bytes, Key] = OrderedDict()
        self._used: set[str] = set()
        self._compared_at = self._used_at = float("-inf")
        self._comparing: asyncio.Task[None] | None = None
        self._publishing = asyncio.Lock()
        self._away = False
        self._proofs = asyncio.Semaphore(PROOFS_AT_ONCE)
        self.attempts = Attempts()

    # --- presenting -------------------------------------------------------------------------------------------------

    async def worker(self, text: str, address: str) -> Key:
        """Return the worker's key that a request presents. Raises Denied with 401 or 429."""
        return await self._good(text, address, "work")

    async def _good(self, text: str, address: str, purpose: str) -> Key:
        await self._compared()
        digest = digest_of(text)
        key = self._proven.get(digest)
        if key is None:
            key = await self._prove(text, address)
            self._proven[digest] = key
            while len(self._proven) > REMEMBERED_MAX:
                self._proven.popitem(last=False)
        if why := key.ended(self._context().now):
            raise Denied(why, f"this key is {why}; join again with a new token", key)
        if key.purpose != purpose:
            raise Denied("wrong_purpose", f"this key is for {key.purpose}, not for {purpose}", key)
        self._used.add(key.key_id)
        return key

    async def _prove(self, text: str, address: str) -> Key:
        """Find and prove a key: the only method that hashes. It also finds ended keys, so that the answer can name the reason."""
        self.attempts.check(address)
        found = await self._keys.with_prefix(text[:PREFIX_CHARS]) if len(text) == KEY_CHARS else []
        async with self._proofs if found else nullcontext():
            with self.attempts.one(address):
                for key, hash_ in found:
                    if await asyncio.to_thread(proves, text, hash_):
                        return key
                raise Denied("unknown" if len(text) == KEY_CHARS else "malformed", "nobody has this key")

    # --- forgetting -------------------------------------------------------------------------------------------------

    async def follow(self, comparing: Pulse, publishing: Pulse) -> None:
        """Compare the remembered keys with the table, and publish revocations that the log does not have yet. Runs for ever."""
        await asyncio.gather(self._compare_for_ever(comparing), self._publish_for_ever(publishing))

    def forget(self, key_id: str) -> None:
        """Forget a changed key; it must be proven again."""
        for digest in [digest for digest, key in self._proven.items() if key.key_id == key_id]:
            del self._proven[digest]

    async def _compare_for_ever(self, pulse: Pulse) -> None:
        with pulse.watching():
            while True:
                pulse.beat()
                comparison = self._comparison()
                await asyncio.wait({comparison}, timeout=PATIENCE_S)
                if comparison.done():
                    comparison.result()  # raises a bug's error
                await asyncio.sleep(COMPARED_EVERY_S)

    async def _compared(self) -> None:
        """Return when the remembered keys were compared a moment ago, or when the table is away."""
        if self._age_s() <= COMPARED_WITHIN_S:
            return
        comparison = self._comparison()
        if not self._away:
            done, _ = await asyncio.wait({comparison}, timeout=PATIENCE_S)
            self._away = not done or self._away  # so that no other request waits for it

    def _age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._compared_at

    def _comparison(self) -> "asyncio.Task[None]":
        """Return the comparison in progress."""
        if self._comparing is None or self._comparing.done():
            self._comparing = asyncio.create_task(self._compare(), name="keys compared")
        return self._comparing

    async def _compare(self) -> None:
        """Forget keys that changed since the last comparison."""
        asked_at = asyncio.get_running_loop().time()
        try:
            for key_id in await self._keys.changed(CHANGES_S + min(self._age_s(), AWAY_MAX_S)):
                self.forget(key_id)
            if self._used and asked_at - self._used_at > USED_EVERY_S:
                used, self._used, self._used_at = self._used, set(), asked_at
                await self._keys.used(used, self._context().now)
        except Retryable as error:
            self._away = True
            log.warning("keys_not_compared", error=str(error))
        else:
            self._compared_at, self._away = asked_at, False

    async def _publish_for_ever(self, pulse: Pulse) -> None:
        while True:
            try:
                async with pulse.limited():
                    await self._publish_revocations()
            except Stalled as error:  # the table of keys hangs; no other request waits for it
                log.warning("revocations_not_published_yet", error=str(error))
            await asyncio.sleep(PUBLISH_EVERY_S)

    async def _publish_revocations(self) -> None:
        """Publish revocations that the log does not have yet. Published twice, they are the same events."""
        async with self._publishing:
            try:
                while unpublished := await self._keys.unpublished():
                    await self._append([key_revoked(self._context(), key, reason) for key, reason in unpublished])
                    await self._keys.mark_published([key.key_id for key, _ in unpublished])
            except Retryable as error:
                log.warning("revocations_not_published_yet", error=str(error))

    # --- issuing ----------------------------------------------------------------------------------------------------

    async def issue(
        self,
        *,
        worker_id: str | None = None,
        name: str = "",
        pools: tuple[str, ...] = (),
        kinds: tuple[JobKind, ...] = (),
        life: timedelta | None = None,
    ) -> tuple[Key, str]:
        """Issue a worker's key; return its text, which cannot be read again."""
        key, text = make(self._context(), "work", worker_id=worker_id, name=name, pools=pools, kinds=kinds, life=life)
        await self._keep(key, text)
        return key, text

    async def invite(self, *, pools: tuple[str, ...], kinds: tuple[JobKind, ...], life: timedelta) -> tuple[Key, str]:
        """Issue a join token."""
        key, text = make(self._context(), "join", pools=pools, kinds=kinds, life=life)
        await self._keep(key, text)
        return key, text

    async def join(self, token: str, address: str, *, name: str, pool: str, life: timedelta | None) -> tuple[Key, str]:
        """Exchange a token, once, for the key of a worker with the token's pools and kinds. Raises Denied."""
        invitation = await self._good(token, address, "join")
        check_pool(invitation, pool)
        if not await self._revoke(invitation.key_id, "used to join"):
            raise Denied("used", "this join token was used already; make another one", invitation)
        return await self.issue(
            worker_id=invitation.worker_id, name=name, pools=invitation.pools, kinds=invitation.kinds, life=life
        )

    async def rotate(self, old: Key, *, overlap: timedelta, life: timedelta | None) -> tuple[Key, str]:
        """Issue another key to the same worker; the old one stays good for `overlap`."""
        context = self._context()
        key, text = make(context, "work", worker_id=old.worker_id, name=old.name, pools=old.pools, kinds=old.kinds, life=life)
        until = context.now + overlap if old.expires_at is None else min(old.expires_at, context.now + overlap)
        hash_ = await self._hash(text)
        rotated = WorkerKeyRotated(
            worker_id=key.worker_id,
            key_id=key.key_id,
            prefix=key.prefix,
            replaced_key_id=old.key_id,
            replaced_expires_at=until,
        )
        await self._append([worker_event(context, rotated)])
        await self._keys.add(key, hash_)
        await self._keys.expire(old.key_id, until)
        return key, text

    async def revoke(self, which: str, reason: str) -> list[Key]:
        """Revoke one key, or all keys of a worker. Raises NotFound when none of them is good."""
        found = await self._revoke(which, reason)
        if not found:
            raise NotFound(f"there is no key and no worker with keys {which}, or they are revoked already")
        return found

    async def listing(self, limit: int) -> Sequence[Key]:
        """Return keys, the most recently issued first."""
        return await self._keys.listing(limit)

    async def _revoke(self, which: str, reason: str) -> list[Key]:
        """Revoke in the table, which bites; publish to the log at once, or later when it is away."""
        found = await self._keys.revoke(which, self._context().now, reason)
        for key in found:
            self.forget(key.key_id)
        await self._publish_revocations()
        return found

    async def _keep(self, key: Key, text: str) -> None:
        hash_ = await self._hash(text)
        await self._append([worker_event(self._context(), issued(key))])  # publish first: no unrecorded key may exist
        await self._keys.add(key, hash_)

    async def _hash(self, text: str) -> str:
        async with self._proofs:
            return await asyncio.to_thread(hashed, text)


def check_pool(key: Key, pool: str) -> None:
    """Raise Denied when the key is not for the pool. Pure."""
    if key.pools and pool not in key.pools:
        raise Denied("wrong_pool", f"this key is for the pools {', '.join(key.pools)}, not for {pool}", key, status=403)

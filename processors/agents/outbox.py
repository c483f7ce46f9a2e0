"""The outbox: effects outside the log and the database, each done at least once, with retries of its own.

A feed puts the effects of its events here, in the transaction that moves its position, and goes on. Slots take one after another,
those of one subject in the order of their events. A slot locks the row until the effect is done; a killed process frees it at once.

While a service is away an effect is put off and no failure counts. An effect that fails by itself too often becomes a dead letter.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from mode import Service
from psycopg import AsyncConnection

from events.clock import Clock
from events.codec import decode, encode
from events.envelope import Event, Recorded
from events.pulse import Pulse
from processors.agents.dead_letters import Graves
from processors.agents.standing import Standing, is_away, seconds_of, sentence_of, words_of
from projections.folding.log import DeadLetter
from projections.folding.queries import load

SQL = load(Path(__file__).with_name("outbox.sql"))
OFFERED_AGAIN = ("files", "planning", "announcing", "dispatcher")
"""Effects of the processors: a dead letter of one of these is offered again by putting its record into the outbox."""
SLOTS = 4
"""Effects done concurrently."""
LOOK_S = 5.0
"""Maximum time until a slot sees the effects of other processes."""
RETRY_S = (0.5, 300.0)
"""First and longest rest of a failing effect."""
AWAY_S = 5.0
"""Longest rest while a service is away."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Effect:
    """An idempotent `act`. `away` says whether its failure is the fault of a service that does not answer."""

    act: Callable[[Recorded[Event]], Awaitable[object]]
    away: Callable[[Exception], Awaitable[bool]] = is_away


class Key(NamedTuple):
    """An effect, and the position of the event that wants it."""

    effect: str
    topic: str
    partition: int
    position: int


async def put(connection: AsyncConnection[Any], effect: str, records: Sequence[Recorded[Event]], *, again: bool = False) -> None:
    """Put effects into the outbox, inside the caller's transaction; with `again`, also those that are done or have failed."""
    rows = [
        {
            **Key(effect, recorded.topic, recorded.partition, recorded.offset)._asdict(),
            "subject": recorded.envelope.subject,
            "record": encode(recorded.envelope),
            "again": again,
        }
        for recorded in records
    ]
    if rows:
        async with connection.cursor() as cursor:
            await cursor.executemany(SQL["put"], rows)


async def dump(connection: AsyncConnection[Any]) -> str:
    """Return the open effects as JSON, for a backup."""
    if not await _is_there(connection):
        return "[]"
    found = await (await connection.execute(SQL["dump"])).fetchone()
    assert found is not None
    return str(found[0])


async def load_dump(connection: AsyncConnection[Any], document: str) -> None:
    """Restore the effects of a backup; existing rows stay as they are."""
    await connection.execute(SQL["create"])
    await connection.execute(SQL["load"], {"document": document})


async def failing(connection: AsyncConnection[Any]) -> list[str]:
    """Return a sentence per failing effect."""
    if not await _is_there(connection):
        return []
    return [
        f"{effect} has not done {topic}/{partition}/{position} ({subject}), {failures} failures: {error}"
        for effect, topic, partition, position, subject, failures, error in await (
            await connection.execute(SQL["failing"])
        ).fetchall()
    ]


async def offered_again(connection: AsyncConnection[Any]) -> list[tuple[Key, str | None, datetime | None]]:
    """Return the effects offered again: key, error while it fails, and when it was done."""
    if not await _is_there(connection):
        return []
    found = await (await connection.execute(SQL["offered_again"])).fetchall()
    return [(Key(*row[:4]), row[4], row[5]) for row in found]


async def _is_there(connection: AsyncConnection[Any]) -> bool:
    """Return whether the table exists: the processors make it."""
    return (await (await connection.execute(SQL["is_there"])).fetchone()) == (True,)


class Outbox(Service):
    """Does the effects in the outbox. `effects` maps their names to actions; `pulse` returns the pulse of a slot."""

    def __init__(
        self,
        pool: Any,
        effects: Mapping[str, Effect],
        graves: Callable[[str], Graves],
        clock: Clock,
        failures_max: int,
        pulse: Callable[[str], Pulse] = Pulse,
    ) -> None:
        super().__init__()
        self._pool = pool
        self._effects = effects
        self._graves = {name: graves(name) for name in effects}
        self._clock = clock
        self._failures_max = failures_max
        self._pulses = [pulse(f"outbox {number}") for number in range(1, SLOTS + 1)]
        self._news = asyncio.Event()
        self._failing: dict[Key, Standing] = {}

    async def create(self) -> None:
        """Make the table unless it exists."""
        async with self._pool.connection() as connection:
            await connection.execute(SQL["create"])

    def wake(self) -> None:
        """Look at once: there is a new effect."""
        self._news.set()

    # --- reports --------------------------------------------------------------------------------------------------------

    def standings(self, effect: str) -> list[Standing]:
        """Return the reported standings of an effect, the oldest first."""
        now = self._clock.now()
        found = [one for key, one in self._failing.items() if key.effect == effect and one.is_reported(now)]
        return sorted(found, key=lambda standing: standing.since)

    def fault(self, effect: str) -> str | None:
        """Return a sentence about where and why an effect fails; None when none does."""
        return sentence_of(self.standings(effect))

    def standing_s(self, effect: str) -> float:
        """Return the seconds for which an effect has failed; 0 when none does."""
        return seconds_of(self.standings(effect), self._clock.now())

    # --- life cycle -----------------------------------------------------------------------------------------------------

    @Service.task
    async def _work(self) -> None:
        await asyncio.gather(*map(self._slot, self._pulses))

    async def _slot(self, pulse: Pulse) -> None:
        rest_s = RETRY_S[0]
        while not self.should_stop:
            self._news.clear()
            try:
                with pulse.watching():
                    busy = await self._one(pulse)
                rest_s = RETRY_S[0]
            except Exception as error:
                log.warning("outbox_rests", error=words_of(error), rest_s=rest_s, exc_info=not await is_away(error))
                await self.sleep(rest_s)
                rest_s = min(AWAY_S, 2 * rest_s)
                continue
            if busy:
                self._news.set()  # another slot may begin with its subject's next one
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_S)

    async def _one(self, pulse: Pulse) -> bool:
        """Do one due effect; return whether there was one."""
        async with self._pool.connection() as connection, connection.transaction():
            async with pulse.limited():
                cursor = await connection.execute(SQL["take"], {"effects": list(self._effects)})
                found = await cursor.fetchone()
            if found is None:
                return False
            wanted = _Wanted(Key(*found[:4]), *found[4:])
            key = wanted.key
            try:
                async with pulse.limited():
                    await self._effects[key.effect].act(Recorded(*key[1:], decode(wanted.record)))
            except Exception as error:  # noqa: BLE001  (any error is this effect's alone)
                async with pulse.limited():
                    await self._failed(connection, wanted, error)
            else:
                async with pulse.limited():
                    await connection.execute(SQL["done"], key._asdict())
                    self._graves[key.effect].passed(1)
                if (before := self._failing.pop(key, None)) or wanted.again:
                    log.info("effect_done", **key._asdict(), failures=before.failures if before else 0, again=wanted.again)
        return True

    async def _failed(self, connection: AsyncConnection[Any], wanted: "_Wanted", error: Exception) -> None:
        """Put an effect off, or bury its event."""
        key, before, failures = wanted.key, self._failing.get(wanted.key), wanted.failures
        since, so_far = (before.since, before.failures) if before else (self._clock.now(), 0)
        partition = key.topic, key.partition
        standing = Standing(key.effect, partition, key.position, wanted.subject, words_of(error), since, so_far + 1)
        if away := await self._effects[key.effect].away(error):
            rest_s = min(AWAY_S, 0.05 * 4.0 ** min(standing.failures, 5))
        else:
            failures += 1
            rest_s = min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(failures - 1, 20))
        if standing.is_milestone:
            log.warning("effect_failed", **standing.fields(), exc_info=not away and standing.failures == 1)
        if not away and failures >= self._failures_max:
            try:
                reason = f"{key.effect} failed {failures} times: {standing.error}"
                await self._graves[key.effect].bury([DeadLetter(*key[1:], reason, wanted.record)], read=1)
            except Exception as fault:  # noqa: BLE001  (the effect waits on, with this error)
                standing = replace(standing, error=words_of(fault))
                log.error("not_buried", **standing.fields())
            else:
                self._graves[key.effect].passed(1)
                await connection.execute(SQL["drop"], key._asdict())
                self._failing.pop(key, None)
                log.error("effect_buried", **standing.fields())
                return
        self._failing[key] = standing
        await connection.execute(SQL["put_off"], {**key._asdict(), "failures": failures, "error": standing.error, "rest_s": rest_s})
        self.loop.call_later(rest_s + 0.01, self._news.set)


class _Wanted(NamedTuple):
    """A taken row."""

    key: Key
    subject: str
    record: bytes
    again: bool
    failures: int

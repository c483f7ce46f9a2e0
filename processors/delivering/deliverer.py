"""The deliverer: the one process that sends notices to endpoints outside.

    notices ─┐
    webhooks ┴> rows of endpoints ─ decide ─> send ─ answer ─> facts on `deliveries` ─> the same rows

A row of the projection `deliveries` is an endpoint's place on the log. The deliverer reads rows and positions once, folds the rest
of the log, and goes on from there; a fact changes its row at once and is then appended. A kill between an attempt and its fact
makes the attempt again, under the same id. Each endpoint has a lane, a task of its own, so that none waits for another. One lane
does one thing at a time: this keeps the order.

A lock in the database makes one deliverer the owner. Should it lose the lock without knowing, the next one fences its facts.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Protocol

import structlog
from mode import Service
from psycopg import AsyncConnection, IsolationLevel

from events.clock import Clock, Context
from events.deliveries import DeliveryEvent
from events.envelope import Envelope, Event, Recorded, program
from events.errors import KinologError, Retryable
from events.notices import NoticePublished
from events.pulse import Pulse
from events.topics import DELIVERIES, NOTICES, WEBHOOKS, Partition
from events.webhooks import WebhookEvent
from processors.agents.standing import Restarts, words_of
from processors.delivering import decide
from processors.delivering.decide import Meet, Next, Policy, Wait
from processors.delivering.messages import TEST_DATA, Content, compose, content_of
from producers.outside import Answer
from producers.webhooks import Kept
from projections.deliveries import projection as readers
from projections.deliveries.endpoints import Endpoint, Place, Wish, evolve_endpoint, evolve_progress
from projections.folding.log import LogReader, Source
from projections.folding.positions import is_served, snapshot
from projections.folding.queries import load

FACTS_MAX = 64
"""Facts that wait for the log: at most so many attempts are made again after a kill."""
RECENT_MAX = 5_000
"""Notices that are kept in memory; an endpoint further behind reads them from the database."""
READ_MAX = 500
WAIT_MAX_S = 60.0
"""Longest sleep of a lane: the clock of the machine may be set meanwhile."""
OWN_S = 1.0
_SQL = load(Path(__file__).with_name("deliverer.sql"))
log = structlog.get_logger(__name__)


class ClosableSource(Source, Protocol):
    """A source of its own."""

    async def close(self) -> None: ...


class Appender(Protocol):
    """Appends until another one is opened, which fences it."""

    async def open(self) -> None: ...
    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Clients:
    """Clients of the deliverer, opened by the composition root. `find` returns the sealed part of an endpoint's version."""

    source: Callable[[], ClosableSource]
    appender: Callable[[], Appender]
    connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
    find: Callable[[str, str], Awaitable[Kept | None]]
    post: Callable[[str, Any, bytes], Awaitable[Answer]]
    context: Callable[[], Context]
    random: Random


@dataclass
class _Lane:
    """One endpoint. `scanned` is the position up to which no notice is for it; `kept` belongs to the version `kept_of`."""

    row: Endpoint
    scanned: int = 0
    ahead: deque[Place] = field(default_factory=deque)
    kept: Kept | None = None
    kept_of: str = ""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def forget(self) -> None:
        """Look for notices from the cursor on again."""
        self.scanned = 0
        self.ahead.clear()


class Deliverer(Service):
    """Sends notices until it is stopped. `sent` gets the outcome of each attempt."""

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        policy: Policy,
        *,
        sent: Callable[[str], None] = lambda outcome: None,
        pulse: Pulse | None = None,
    ) -> None:
        super().__init__()
        self._clients = clients
        self._clock = clock
        self.policy = policy
        self._sent = sent
        self._pulse = pulse or Pulse("the deliverer")
        self._lanes: dict[str, _Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        self._running: list[asyncio.Task[None]] = []
        self._recent: deque[Place] = deque(maxlen=RECENT_MAX)
        self._recent_ids: set[str] = set()
        self._end = 0
        self._facts: asyncio.Queue[Envelope[Event]] = asyncio.Queue(FACTS_MAX)
        self._restarts = Restarts()

    @property
    def fault(self) -> str | None:
        """Reason why nothing is delivered, after several failures in a row."""
        return self._restarts.fault

    @Service.task
    async def _deliver(self) -> None:
        while not self.should_stop:
            try:
                async with self._pulse.limited(), self._owning():
                    await self._deliver_from_the_log()
            except Exception as error:  # also a bug: the feeds of the same process go on
                first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                known = isinstance(first, KinologError | OSError)
                wait_s = self._restarts.failed(first)
                log.warning("deliverer_begins_again", error=words_of(first), wait_s=wait_s, exc_info=not known)
                await self.sleep(wait_s)

    @asynccontextmanager
    async def _owning(self) -> AsyncIterator[None]:
        """Wait until no other deliverer delivers."""
        async with self._clients.connect() as connection:
            await connection.set_autocommit(True)
            while (await (await connection.execute(_SQL["own"])).fetchone()) != (True,):
                self._pulse.beat()
                await self._clock.sleep(OWN_S)
            yield

    async def _deliver_from_the_log(self) -> None:
        """Deliver until something fails; keep no state that is not on the log."""
        appender, source = self._clients.appender(), self._clients.source()
        self._facts = asyncio.Queue(FACTS_MAX)
        try:
            await appender.open()
            reader = await self._begin(source)
            async with asyncio.TaskGroup() as tasks:
                self._group = tasks
                tasks.create_task(self._write(appender))
                for lane in self._lanes.values():
                    self._start(lane)
                await self._follow(reader)
                for running in self._running:
                    running.cancel()
                await self._facts.join()
                raise _Stopped
        except* _Stopped:
            log.info("deliverer_stopped")
        finally:
            self._group = None
            self._running.clear()
            await source.close()
            await appender.close()

    # --- state ------------------------------------------------------------------------------------------------------

    async def _begin(self, source: Source) -> LogReader:
        """Read the rows, fold the rest of the log, and return the reader that follows it."""
        async with self._clients.connect() as connection:
            if not await is_served(connection, readers.PROJECTION.name):
                raise Retryable("the projection of deliveries is not there yet")
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            async with connection.transaction():
                rows = await readers.every_endpoint(connection)
                stored = (await snapshot(connection, readers.PROJECTION.name)).next
        self._lanes = {row.endpoint_id: _Lane(row) for row in rows}
        self._recent.clear()
        self._recent_ids.clear()
        self._end = stored[NOTICES.name, 0]
        reader = LogReader(source)
        await reader.seek(stored)
        async for records, _dead in reader.to_end():
            self._pulse.beat()
            self._take(records)
        positions = reader.positions
        await reader.seek({partition: at for partition, at in positions.items() if partition[0] != DELIVERIES.name})
        return reader

    async def _follow(self, reader: LogReader) -> None:
        """Take what people and the log say, until the service stops."""
        while not self.should_stop:
            self._pulse.beat()
            batch, _dead = await reader.read(records_max=2_000, wait_s=0.5)
            if batch is not None:
                self._take(batch.records)
            self._restarts.worked()

    def _take(self, records: Sequence[Recorded[Any]]) -> None:
        """Fold records, and wake the lanes that they are for."""
        for recorded in records:
            event = recorded.envelope.data
            if isinstance(event, NoticePublished):
                self._end = recorded.offset + 1
                if event.event_id not in self._recent_ids:
                    self._remember(Place(recorded.offset, event))
                continue
            lane = self._lanes.get(event.endpoint_id)
            row = evolve_endpoint(lane.row if lane else None, recorded)
            if lane is None:
                self._open(row)
            else:
                lane.row = row
                if isinstance(event, WebhookEvent):
                    lane.forget()
                lane.woken.set()
        if any(isinstance(recorded.envelope.data, NoticePublished) for recorded in records):
            for lane in self._lanes.values():
                lane.woken.set()

    def _remember(self, place: Place) -> None:
        if len(self._recent) == RECENT_MAX:
            self._recent_ids.discard(self._recent[0].event.event_id)
        self._recent.append(place)
        self._recent_ids.add(place.event.event_id)

    def _open(self, row: Endpoint) -> None:
        lane = self._lanes[row.endpoint_id] = _Lane(row)
        if self._group is not None:
            self._start(lane)

    def _start(self, lane: _Lane) -> None:
        assert self._group is not None
        self._running.append(self._group.create_task(self._run(lane)))

    # --- lanes ------------------------------------------------------------------------------------------------------

    async def _run(self, lane: _Lane) -> None:
        """Do one due step of an endpoint after the other."""
        while True:
            lane.woken.clear()
            match decide.step(lane.row, self._clock.now()):
                case Wait(until):
                    await self._woken(lane, until)
                case Meet(wish):
                    await self._meet(lane, wish)
                case Next(facts) if facts:
                    await self._record(lane, facts)
                case Next():
                    place = await self._next(lane)
                    if place is None:
                        await self._woken(lane, None)
                    else:
                        await self._attempt(lane, place)

    async def _woken(self, lane: _Lane, until: datetime | None) -> None:
        """Wait for an event of the endpoint, or a time."""
        left_s = WAIT_MAX_S if until is None else (until - self._clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, WAIT_MAX_S))):
                await lane.woken.wait()
        except TimeoutError:
            return

    async def _next(self, lane: _Lane) -> Place | None:
        """Return the next notice for an endpoint; None when there is none yet."""
        while True:
            while lane.ahead:
                place = lane.ahead[0]
                if place.position >= lane.row.cursor and decide.wants(lane.row, place.event):
                    return place
                lane.ahead.popleft()
            start = max(lane.row.cursor, lane.scanned)
            if start >= self._end:
                return None
            found = await self._read(start)
            if not found:
                return None
            lane.ahead.extend(found)
            lane.scanned = found[-1].position + 1

    async def _read(self, start: int) -> Sequence[Place]:
        """Return notices from a position on: from memory, or from the database for an endpoint that is far behind."""
        if self._recent and self._recent[0].position <= start:
            return [place for place in self._recent if place.position >= start]
        async with self._clients.connect() as connection:
            return await readers.notices_from(connection, start, READ_MAX)

    async def _attempt(self, lane: _Lane, place: Place) -> None:
        row = lane.row
        delivery_id = decide.delivery_id_of(row.endpoint_id, place.event.event_id)
        answer = await self._send(lane, content_of(place.event), delivery_id, decide.attempt_of(row, delivery_id))
        facts = decide.follow(row, place, answer, self._clock.now(), self._clients.random.random(), self.policy)
        await self._record(lane, facts)

    async def _meet(self, lane: _Lane, wish: Wish) -> None:
        """Do what a person wished; the fact says what came of it."""
        row = lane.row
        if wish.event_type is not None:
            content = Content(wish.event_type, self._clock.now(), TEST_DATA, is_test=True)
            answer = await self._send(lane, content, f"test_{wish.request_id}", 1)
            await self._record(lane, (decide.answered_test(row, wish, answer),))
        elif wish.event_id is not None:
            async with self._clients.connect() as connection:
                place = await readers.notice(connection, wish.event_id)
            if place is None:
                await self._record(lane, (decide.refused(row, wish, "there is no notice of this event"),))
                return
            delivery_id = decide.delivery_id_of(row.endpoint_id, wish.event_id)
            answer = await self._send(lane, content_of(place.event), delivery_id, 1)
            await self._record(lane, decide.follow(row, place, answer, self._clock.now(), 0.0, self.policy, wish))
        else:
            await self._record(lane, (decide.moved(row, wish, await self._position(wish)),))
            lane.forget()

    async def _position(self, wish: Wish) -> int:
        if wish.since is None:
            return min(wish.position or 0, self._end)
        async with self._clients.connect() as connection:
            return await readers.position_since(connection, wish.since)

    async def _send(self, lane: _Lane, content: Content, delivery_id: str, attempt: int) -> Answer:
        """Send a message, signed now; without address or secret there is only the reason."""
        row = lane.row
        if lane.kept_of != row.fingerprint:
            lane.kept, lane.kept_of = None, ""
            try:
                lane.kept = await self._clients.find(row.endpoint_id, row.fingerprint)
            except Retryable as error:
                return Answer(None, words_of(error))
            except KinologError as error:
                return Answer(None, str(error))
        message = None
        if lane.kept is not None:
            lane.kept_of = row.fingerprint
            message = compose(lane.kept, row.format, content, delivery_id, attempt, self._clock.now())
        if message is None:
            return Answer(None, "the address or the secret of this endpoint is not there; save it again")
        answer = await self._clients.post(message.url, message.headers, message.body)
        self._sent("delivered" if answer.is_taken else "away" if answer.is_away else "refused")
        return answer

    async def _record(self, lane: _Lane, facts: Sequence[DeliveryEvent]) -> None:
        """Let facts change the row, and hand them to the writer."""
        context = self._clients.context()
        for fact in facts:
            lane.row = evolve_progress(lane.row, fact, context.now)
            id_ = context.new_id()
            actor = program(context.source)
            await self._facts.put(Envelope(id_, context.source, fact.endpoint_id, context.now, fact, id_, actor=actor))

    async def _write(self, appender: Appender) -> None:
        """Append facts, as many at once as wait."""
        while True:
            facts = [await self._facts.get()]
            while not self._facts.empty():
                facts.append(self._facts.get_nowait())
            await appender.append(facts)
            for _ in facts:
                self._facts.task_done()


class _Stopped(Exception):
    """The service stops."""


def partitions() -> list[Partition]:
    """Return the partitions that the deliverer reads."""
    return [(topic.name, number) for topic in (NOTICES, WEBHOOKS, DELIVERIES) for number in range(topic.partitions)]

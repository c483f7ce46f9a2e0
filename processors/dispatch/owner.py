"""The owners of the pools: each decides for one partition of `job-requests` and writes facts to the same one of `jobs`.

The facts of a batch are one Kafka transaction. The transactional id belongs to the partition, so a new owner fences the old one
before it reads the facts to their end. An owner that is fenced, or does not know how a transaction ended, raises: the process
exits, and its supervisor starts it again from the log.

The offset of requests is committed separately, once a second: inside the transaction it made each a third longer, with a p99 of
30 ms. A request read again after a crash is recognised by its id (`State.answered`).

The state is stored at intervals (`processors.dispatch.snapshots`), so that a new owner reads only later facts. Without a usable
snapshot it reads all facts, which costs only time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata
from mode import Service

from events.clock import Clock
from events.codec import HEADERS, decode, encode
from events.envelope import Envelope, Event, program
from events.errors import EventTooLarge, InvalidEvent, ObjectMissing, StoreUnavailable
from events.jobs import ClaimRequested, ClockTicked, JobRequest, LeaseRenewed, is_fact, is_request
from events.objects import snapshot_key
from events.pulse import Pulse
from events.topics import JOB_REQUESTS, JOBS, TOPIC_OF, TOPICS, WORKERS, Topic, partition_for
from processors.agents.dead_letters import Grave, Limit, Recall, TooManyDeadLetters
from processors.agents.dead_letters import encode as encode_dead
from processors.agents.standing import words_of
from processors.dispatch.decide import SOURCE, decide, remember
from processors.dispatch.snapshots import BYTES_MAX, Mark, Snapshot, dump, load, restore, take
from processors.dispatch.state import Policy, State, evolve, next_wakeup
from producers.appender import EVENT_BYTES_MAX
from projections.folding.log import DeadLetter

IDLE_MS, COMMIT_S, BATCH = 1000, 1.0, 2000
REQUEST_BYTES_MAX = EVENT_BYTES_MAX - 50_000
"""Maximum bytes of a request that a fact repeats: the fact is a little larger."""
SNAPSHOT_FACTS = 20_000
"""Facts between two snapshots; a new owner folds as many in one or two seconds."""
REASON_MAX = 500
SNAPSHOT_S = 60.0
"""Maximum time to store or read a snapshot, which only saves time."""
STANDS_S = 30.0
"""Rest of a partition with too many unusable requests."""
DISPATCHER = "dispatcher"
CLAIM_LIFE = timedelta(seconds=60)
"""Age of the oldest request that a starting owner reads to find waiting claims."""
log = structlog.get_logger(__name__)


class Store(Protocol):
    """The store of snapshots, implemented by `infra.runtime.objects.ObjectStore`. Raises StoreUnavailable, ObjectMissing."""

    async def put_bytes(self, key: str, data: bytes, content_type: str) -> object: ...

    async def get_bytes(self, key: str, max_bytes: int) -> bytes: ...


@dataclass(frozen=True)
class Clients:
    """An owner's access to Kafka and the store. Each function returns a started client; consumers see committed records only.

    `consumer(None)` reads up to an end. Its fetches must be short, since other requests wait behind them on the connection.
    """

    consumer: Callable[[str | None], Awaitable[AIOKafkaConsumer]]
    producer: Callable[[str], Awaitable[AIOKafkaProducer]]
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
    new_id: Callable[[], str]
    recall: Recall
    store: Store
    topic_prefix: str = ""


@dataclass
class _Owner:
    """One partition: its state, its fenced producer, whether a tick is on its way, and the position in its requests.

    `mark` is the last fact; `unsaved` counts the facts since the last snapshot.
    """

    state: State
    producer: AIOKafkaProducer
    pool: str
    mark: Mark | None
    unsaved: int
    tick_sent: datetime | None = None
    read: int = 0
    committed: int = 0
    saving: "asyncio.Task[None] | None" = None


def group_of(topic_prefix: str) -> str:
    """Return the consumer group that commits the offset of answered requests."""
    return f"{topic_prefix}kinolog.dispatcher"


class Dispatcher(Service):
    """Owns the partitions that the consumer group assigns."""

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        policy: Policy,
        pools: Sequence[str],
        *,
        owned: Callable[[str, State], None] = lambda pool, state: None,
        decided: Callable[[State, Sequence[Envelope[Event]], float], None] = lambda state, facts, seconds: None,
        snapshot_facts: int = SNAPSHOT_FACTS,
        limit: Limit | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        super().__init__()
        self._limit = limit or Limit()
        self._pulse = pulse or Pulse("the dispatcher")
        self._standing: dict[TopicPartition, tuple[str, float]] = {}
        self._buried: dict[int, set[Grave]] = {}
        self._clients = clients
        self._clock = clock
        self._policy = policy
        self._pools = pools
        self._owned = owned
        self._decided = decided
        self._snapshot_facts = snapshot_facts
        self._group = group_of(clients.topic_prefix)
        self._requests, self._facts = (clients.topic_prefix + topic.name for topic in (JOB_REQUESTS, JOBS))
        self._owners: dict[TopicPartition, _Owner] = {}
        self._consumer: AIOKafkaConsumer | None = None

    def use(self, policy: Policy) -> None:
        """Decide by another policy from the next request on. Present leases and waits keep their ends."""
        self._policy = policy
        for owner in self._owners.values():
            owner.state.policy = policy

    @property
    def ready(self) -> bool:
        """Whether this process owns the partitions of all its pools."""
        wanted = {partition_for(pool, JOB_REQUESTS.partitions) for pool in self._pools}
        return wanted <= {partition.partition for partition in self._owners}

    @property
    def fault(self) -> str | None:
        """A sentence about where and why it stands still; None when it goes on."""
        return next((sentence for sentence, _ in self._standing.values()), None)

    async def on_start(self) -> None:
        """Join the group."""
        self._consumer = await self._clients.consumer(self._group)
        self._consumer.subscribe([self._requests], listener=_Ownership(self._lose))

    async def on_shutdown(self) -> None:
        """Leave the group after the last decision: an aborted transaction needs its producer."""
        for owner in self._owners.values():
            await _close(owner)
        if self._consumer is not None:
            await self._consumer.stop()

    # --- owning -----------------------------------------------------------------------------------------------------

    async def _acquire(self) -> None:
        """Open assigned partitions. Not inside the rebalance, which sends no heartbeat while facts are read."""
        assert self._consumer is not None
        new = [partition for partition in self._consumer.assignment() if partition not in self._owners]
        self._owners.update(zip(new, await asyncio.gather(*map(self._open, new)), strict=True))

    async def _lose(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            if (owner := self._owners.pop(partition, None)) is not None:
                await _close(owner)

    async def _open(self, partition: TopicPartition) -> _Owner:
        """Fence older owners, read the facts to their end, then the latest requests for the state that is no fact."""
        producer = await self._clients.producer(f"{self._group}-{partition.partition}")
        reader = await self._clients.consumer(None)
        try:
            state, mark, folded = await self._remember_facts(reader, partition.partition)
            await self._remember_requests(reader, partition, state)
        finally:
            await reader.stop()
        pools = [pool for pool in self._pools if partition_for(pool, JOB_REQUESTS.partitions) == partition.partition]
        log.info("partition_owned", partition=partition.partition, jobs=len(state.jobs), claims=state.waiting, facts=folded)
        for pool in pools:
            self._owned(pool, state)
        return _Owner(state, producer, pools[0] if pools else self._pools[0], mark, folded)

    async def _remember_facts(self, reader: AIOKafkaConsumer, number: int) -> tuple[State, Mark | None, int]:
        """Fold the facts after the snapshot, or all; return the state, the last fact, and the number of folded ones."""
        facts, snapshot = TopicPartition(self._facts, number), await self._load(number)
        last: Mark | None = None
        if snapshot is not None:
            state, folded = restore(snapshot), -1  # the snapshot has the fact at the mark
            async with aclosing(self._read_to_end(reader, facts, snapshot.mark.offset)) as after:
                async for offset, envelope in after:
                    if last is None and Mark(offset, envelope.id) != snapshot.mark:
                        break
                    if last is not None and is_fact(envelope):
                        evolve(state, envelope)
                    last, folded = Mark(offset, envelope.id), folded + 1
            if last is not None:
                return state, last, folded
            log.warning("snapshot_foreign", partition=number, offset=snapshot.mark.offset)
        state, folded = State(policy=self._policy), 0
        async for offset, envelope in self._read_to_end(reader, facts, 0):
            if is_fact(envelope):
                evolve(state, envelope)
            last, folded = Mark(offset, envelope.id), folded + 1
        return state, last, folded

    async def _remember_requests(self, reader: AIOKafkaConsumer, partition: TopicPartition, state: State) -> None:
        """Restore state that is no fact: waiting claims, and renewals."""
        now = self._clock.now()
        assert self._consumer is not None
        committed = await self._consumer.committed(partition) or 0
        await self._remember_letters(partition.partition, committed)
        since = now - max(CLAIM_LIFE, self._policy.lease)
        starts = await reader.offsets_for_times({partition: int(since.timestamp() * 1000)})
        start = starts[partition]
        if start is not None and start.offset < committed:
            async for _, envelope in self._read_to_end(reader, partition, start.offset, committed):
                self._recover(state, envelope, now)

    async def _remember_letters(self, number: int, end: int) -> None:
        """Count what earlier processes have buried of a partition, read up to `end`: it is not buried again."""
        if number not in self._buried:
            graves = await self._clients.recall(DISPATCHER, JOB_REQUESTS.name)
            self._buried[number] = {grave for grave in graves if grave.partition == number}
            self._limit.count_earlier(self._buried[number], {(JOB_REQUESTS.name, number): end})

    def _recover(self, state: State, envelope: Envelope[Event], now: datetime) -> None:
        event = envelope.data
        if isinstance(event, ClaimRequested) and event.deadline > now:
            remember(state, envelope)
        elif isinstance(event, LeaseRenewed):
            remember(state, envelope, now)

    async def _read_to_end(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int | None = None
    ) -> AsyncGenerator[tuple[int, Envelope[Event]], None]:
        """Yield (offset, event) of a partition from `start` to `end`, or to its last stable offset."""
        consumer.assign([partition])
        if end is None:
            end = (await consumer.end_offsets([partition]))[partition]
        if start >= end:
            return
        consumer.seek(partition, start)
        while await consumer.position(partition) < end:
            self._pulse.beat()
            fetched = await consumer.getmany(partition, timeout_ms=500)
            for message in fetched.get(partition, ()):
                if message.offset < end:
                    try:
                        yield message.offset, decode(message.value or b"")
                    except InvalidEvent as error:
                        log.warning("fact_undecodable", topic=partition.topic, offset=message.offset, reason=str(error))

    # --- snapshots --------------------------------------------------------------------------------------------------

    def _key(self, number: int) -> str:
        return snapshot_key(self._group, number)

    async def _load(self, number: int) -> Snapshot | None:
        try:
            async with asyncio.timeout(SNAPSHOT_S):
                return load(await self._clients.store.get_bytes(self._key(number), BYTES_MAX), self._policy)
        except ObjectMissing:
            return None
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("snapshot_not_read", partition=number, error=words_of(error))
            return None

    def _put_aside(self, owner: _Owner, number: int) -> None:
        """Begin to store the state if there are enough new facts; only between two batches."""
        if owner.mark is None or owner.unsaved < self._snapshot_facts or (owner.saving is not None and not owner.saving.done()):
            return
        owner.unsaved = 0
        owner.saving = asyncio.create_task(self._save(take(owner.state, owner.mark), number), name=f"snapshot-{number}")

    async def _save(self, snapshot: Snapshot, number: int) -> None:
        try:
            async with asyncio.timeout(SNAPSHOT_S):
                data = await asyncio.to_thread(dump, snapshot)
                await self._clients.store.put_bytes(self._key(number), data, "application/zstd")
        except Exception as error:  # noqa: BLE001  (a snapshot only saves time; the next one may succeed)
            log.warning("snapshot_not_stored", partition=number, error=words_of(error))
            return
        log.info("snapshot_stored", partition=number, offset=snapshot.mark.offset, bytes=len(data), jobs=len(snapshot.jobs))

    # --- deciding ---------------------------------------------------------------------------------------------------

    @Service.task
    async def _decide(self) -> None:
        assert self._consumer is not None
        with self._pulse.watching():
            while not self.should_stop:
                self._pulse.beat()
                fetched = await self._consumer.getmany(timeout_ms=self._patience_ms(), max_records=BATCH)
                await self._acquire()
                for partition, messages in fetched.items():
                    owner = self._owners.get(partition)
                    if owner is not None:
                        await self._answer(owner, partition, messages)
                        if self._owners.get(partition) is owner:
                            self._put_aside(owner, partition.partition)
                await self._wake_due()
                self._try_again()

    @Service.task
    async def _commit(self) -> None:
        """Commit the offset of requests at intervals. A failure does no harm: more is read again."""
        while not self.should_stop:
            await self.sleep(COMMIT_S)
            moved = {partition: owner.read for partition, owner in self._owners.items() if owner.read > owner.committed}
            if not moved or self._consumer is None:
                continue
            try:
                await self._consumer.commit(moved)
            except KafkaError as error:
                log.warning("positions_not_committed", error=str(error))
                continue
            for partition, position in moved.items():
                if (owner := self._owners.get(partition)) is not None:
                    owner.committed = position

    def _patience_ms(self) -> int:
        now = self._clock.now()
        wakeups = [
            moment
            for owner in self._owners.values()
            if owner.tick_sent is None and (moment := next_wakeup(owner.state)) is not None
        ]
        if not wakeups:
            return IDLE_MS
        return max(1, min(IDLE_MS, int((min(wakeups) - now).total_seconds() * 1000) + 1))

    async def _answer(self, owner: _Owner, partition: TopicPartition, messages: Sequence[Any]) -> None:
        """Decide a batch and write its facts, all or none."""
        started = self.loop.time()
        now = self._clock.now()
        facts: list[Envelope[Event]] = []
        dead: list[DeadLetter] = []
        undecided = False
        too_many: TooManyDeadLetters | None = None
        for message in messages:
            value = message.value or b""
            owner.read = message.offset + 1
            if Grave(JOB_REQUESTS.name, partition.partition, message.offset) in self._buried[partition.partition]:
                continue  # an earlier process did not commit its offset any more
            try:
                request = _request(value)
            except InvalidEvent as error:
                letter = _letter(partition, message.offset, str(error), value)
                if too_many := self._limit.exceeded([*dead, letter], read=len(messages)):
                    break
                dead.append(letter)
                continue
            if isinstance(request.data, ClockTicked):
                owner.tick_sent = None
            try:
                facts += decide(owner.state, request, now, too_large=len(value) > REQUEST_BYTES_MAX)
            except Exception as error:  # a bug, and only this request's; a tick would come again and again
                if isinstance(request.data, ClockTicked):
                    raise
                log.exception("request_undecided", type=request.data.TYPE, partition=partition.partition, offset=message.offset)
                reason = f"it cannot be decided: {type(error).__name__}: {error}"[:REASON_MAX]
                letter = _letter(partition, message.offset, reason, value)
                undecided = True
                if not (too_many := self._limit.exceeded([*dead, letter], read=len(messages))):
                    dead.append(letter)
                break
        if facts or dead:
            await self._write(owner, partition, facts, dead)
            self._decided(owner.state, facts, self.loop.time() - started)
        self._limit.count(dead, read=len(messages))
        if too_many:
            owner.read -= 1
            log.error("dispatcher_stands_still", partition=partition.partition, offset=owner.read, error=str(too_many))
            self._standing[partition] = f"stands still: {too_many}", self.loop.time() + STANDS_S
        if undecided or too_many:
            await self._begin_again(owner, partition)

    async def _begin_again(self, owner: _Owner, partition: TopicPartition) -> None:
        """Drop an owner whose state may be half changed. The next one reads the log, and goes on behind the request."""
        assert self._consumer is not None
        await self._consumer.commit({partition: owner.read})
        self._consumer.seek(partition, owner.read)
        await self._lose([partition])
        if partition in self._standing:
            self._consumer.pause(partition)

    def _try_again(self) -> None:
        """Resume partitions that have stood still for long enough."""
        assert self._consumer is not None
        now = self.loop.time()
        for partition in [partition for partition, (_, at) in self._standing.items() if at <= now]:
            del self._standing[partition]
            if partition in self._consumer.assignment():
                self._consumer.resume(partition)

    async def _write(
        self,
        owner: _Owner,
        partition: TopicPartition,
        facts: Sequence[Envelope[Event]],
        dead: Sequence[DeadLetter],
    ) -> None:
        producer, prefix = owner.producer, self._clients.topic_prefix
        sent: list[tuple[int, asyncio.Future[RecordMetadata]]] = []
        async with producer.transaction():
            for topic, number, builder in self._batches(producer, partition, facts):
                count = builder.record_count()
                written = await producer.send_batch(builder, prefix + topic.name, partition=number)
                if topic is JOBS:
                    sent.append((count, written))
            for letter in dead:
                await producer.send(prefix + JOB_REQUESTS.dead_letters, encode_dead(letter), partition=0)
        if sent:
            count, written = sent[-1]
            last = next(fact for fact in reversed(facts) if TOPIC_OF[fact.data.TYPE] is JOBS)
            owner.mark = Mark((await written).offset + count - 1, last.id)
            owner.unsaved += sum(count for count, _ in sent)

    def _batches(
        self, producer: AIOKafkaProducer, partition: TopicPartition, facts: Sequence[Envelope[Event]]
    ) -> Iterator[tuple[Topic, int, BatchBuilder]]:
        """Yield record batches in the order of the facts: a producer call per fact would take ten times as long."""
        open_: dict[tuple[str, int], BatchBuilder] = {}
        for fact in facts:
            topic = TOPIC_OF[fact.data.TYPE]
            number = partition.partition if topic is JOBS else partition_for(fact.subject, WORKERS.partitions)
            record: dict[str, Any] = {
                "key": fact.subject.encode(),
                "value": encode(fact),
                "timestamp": int(fact.time.timestamp() * 1000),
                "headers": HEADERS,
            }
            builder = open_.get((topic.name, number)) or producer.create_batch()
            open_[topic.name, number] = builder
            if builder.append(**record) is None:
                yield topic, number, builder
                builder = open_[topic.name, number] = producer.create_batch()
                if builder.append(**record) is None:
                    raise EventTooLarge(f"{fact.data.TYPE} of {fact.subject} does not fit into an empty batch")
        for (name, number), builder in open_.items():
            yield TOPICS[name], number, builder

    async def _wake_due(self) -> None:
        """Append a tick to partitions where something is due."""
        now = self._clock.now()
        for owner in self._owners.values():
            moment = next_wakeup(owner.state)
            if moment is None or moment > now or owner.tick_sent is not None:
                continue
            owner.tick_sent = now
            id_, tick = self._clients.new_id(), ClockTicked(pool=owner.pool, now=now)
            await self._clients.append([Envelope(id_, SOURCE, owner.pool, now, tick, id_, actor=program(SOURCE))])


class _Ownership(ConsumerRebalanceListener):
    """Drops the owners of partitions that go to another process."""

    def __init__(self, lose: Callable[[Sequence[TopicPartition]], Awaitable[None]]) -> None:
        self._lose = lose

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Called by the consumer; the owners are opened before the first request is answered."""

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Called by the consumer."""
        await self._lose(revoked)


def _request(value: bytes) -> Envelope[JobRequest]:
    """Return the request in a record. Raises InvalidEvent when there is none."""
    envelope = decode(value)
    if not is_request(envelope):
        raise InvalidEvent(f"{envelope.data.TYPE} is no request")
    return envelope


async def _close(owner: _Owner) -> None:
    if owner.saving is not None:
        owner.saving.cancel()
        await asyncio.gather(owner.saving, return_exceptions=True)
    await owner.producer.stop()


def _letter(partition: TopicPartition, offset: int, reason: str, value: bytes) -> DeadLetter:
    return DeadLetter(JOB_REQUESTS.name, partition.partition, offset, reason, value, DISPATCHER)

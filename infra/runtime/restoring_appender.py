"""Appends records at offsets that they had before; see projections/history/backup.py for how. Nobody else may append meanwhile."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import stamina
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from events.codec import HEADERS, read_wire
from events.errors import Conflict, LogUnavailable
from infra.runtime.kafka import LOGGER, librdkafka
from infra.runtime.log_consumer import REQUEST_TIMEOUT_S
from infra.runtime.settings import Settings
from projections.history.backup import Step

T = TypeVar("T")
TIMEOUT_S = 60.0
FILLER = b"filler"
NO_TIME_MS = 1
"""Placeholder for a missing time."""
NOW_MS = 0
"""The client replaces it by its own time."""


class RestoringAppender:
    """Only one at a time: opening it fences its predecessor, and aborts that one's transaction."""

    def __init__(self, settings: Settings) -> None:
        common: dict[str, str | int | float | bool] = {
            **librdkafka(settings),
            "linger.ms": 0,
            "enable.idempotence": True,
            "message.max.bytes": 4 << 20,
        }
        self._prefix = settings.topic_prefix
        self._plain = Producer(common, logger=LOGGER)
        self._transactional = Producer({**common, "transactional.id": f"{settings.topic_prefix}kinolog.restore"}, logger=LOGGER)
        self._admin = AdminClient(librdkafka(settings), logger=LOGGER)
        self._time_ms: dict[tuple[str, int], int] = {}
        self._marked: set[tuple[str, int]] = set()

    async def open(self) -> None:
        """Fence older ones. Raises LogUnavailable."""
        await self._run(lambda: self._transactional.init_transactions(TIMEOUT_S))

    async def take(self, topic: str, steps: Mapping[int, Step]) -> None:
        """Take one step in each of some partitions of a topic. Raises Conflict when a record got another offset."""
        await self._run(lambda: self._take(topic, steps))

    def _take(self, topic: str, steps: Mapping[int, Step]) -> None:
        of = {kind: {n: step for n, step in steps.items() if step.kind == kind} for kind in ("plain", "committed", "aborted")}
        if plain := of["plain"]:
            self._settle(topic, plain)
            self._produce(self._plain, topic, plain)
            self._plain.flush(TIMEOUT_S)
        for number, step in steps.items():
            if step.kind == "skipped":
                self._skip(topic, number, step)
        if committed := of["committed"]:
            self._transactional.begin_transaction()
            self._produce(self._transactional, topic, committed)
            self._transactional.commit_transaction(TIMEOUT_S)
            self._marked |= {(topic, number) for number in committed}
        if aborted := of["aborted"]:
            self._transactional.begin_transaction()
            for number, step in aborted.items():
                self._fill(self._transactional, topic, number, step.gap - 1, self._time_of_gap(topic, number, step))
            self._transactional.flush(TIMEOUT_S)
            self._transactional.abort_transaction(TIMEOUT_S)
            self._marked |= {(topic, number) for number in aborted}

    async def settle(self, topic: str, ends: Mapping[int, int]) -> None:
        """Return when some partitions of a topic end there: a transaction's marker comes a while after its commit."""
        await self._run(lambda: self._await_ends(topic, ends))

    def _settle(self, topic: str, steps: Mapping[int, Step]) -> None:
        """Wait for markers before something that is no transaction could be written in front of them."""
        self._await_ends(topic, {number: step.first for number, step in steps.items() if (topic, number) in self._marked})
        self._marked -= {(topic, number) for number in steps}

    def _await_ends(self, topic: str, ends: Mapping[int, int]) -> None:
        wanted = {TopicPartition(self._prefix + topic, number): end for number, end in ends.items()}
        if not wanted:
            return
        latest = {partition: OffsetSpec.latest() for partition in wanted}
        for attempt in stamina.retry_context(on=Conflict, timeout=TIMEOUT_S, attempts=None, wait_initial=0.001, wait_max=0.1):
            with attempt:
                answers = self._admin.list_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED)
                for partition, answer in answers.items():
                    if answer.result(TIMEOUT_S).offset < wanted[partition]:
                        raise Conflict(f"{topic}/{partition.partition} does not end at {wanted[partition]} yet")

    def _produce(self, producer: Producer, topic: str, steps: Mapping[int, Step]) -> None:
        for number, step in steps.items():
            for offset, value in step.records:
                key, time_ms = self._key_and_time(topic, number, value)
                producer.produce(
                    self._prefix + topic,
                    value,
                    key,
                    number,
                    on_delivery=_expecting(offset),
                    timestamp=time_ms,
                    headers=list(HEADERS),
                )
                producer.poll(0)

    def _key_and_time(self, topic: str, number: int, value: bytes) -> tuple[bytes | None, int]:
        """Return a record's key and time as every appender sets them: subject and time of its event. Other records have no key."""
        partition = topic, number
        try:
            wire = read_wire(value)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None, self._time_ms.get(partition, NO_TIME_MS)
        self._time_ms[partition] = int(wire.time.timestamp() * 1000)
        return wire.subject.encode(), self._time_ms[partition]

    def _time_of_gap(self, topic: str, number: int, step: Step) -> int:
        """Return the time of the record before or after: the broker soon deletes a partition's start that has an older one."""
        if (topic, number) in self._time_ms or step.following is None:
            return self._time_ms.get((topic, number), NOW_MS)
        return self._key_and_time(topic, number, step.following[1])[1]

    def _fill(self, producer: Producer, topic: str, number: int, count: int, time_ms: int) -> None:
        for _ in range(count):
            producer.produce(self._prefix + topic, FILLER, None, number, timestamp=time_ms)
            producer.poll(0)

    def _skip(self, topic: str, number: int, step: Step) -> None:
        self._fill(self._plain, topic, number, step.gap, NO_TIME_MS)
        self._plain.flush(TIMEOUT_S)
        (deleted,) = self._admin.delete_records([TopicPartition(self._prefix + topic, number, step.next)]).values()
        deleted.result(TIMEOUT_S)

    async def begin_again(self, topic: str) -> None:
        """Delete a topic; return when it is gone."""
        name = self._prefix + topic
        await self._run(lambda: self._admin.delete_topics([name])[name].result(TIMEOUT_S))
        async for attempt in stamina.retry_context(on=Conflict, timeout=TIMEOUT_S, attempts=None, wait_initial=0.05, wait_max=1.0):
            with attempt:
                if name in (await self._run(lambda: self._admin.list_topics(timeout=TIMEOUT_S))).topics:
                    raise Conflict(f"{topic} is still being deleted")

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except BufferError as error:
            raise LogUnavailable("the log does not take records") from error
        except KafkaException as error:
            failure: KafkaError = error.args[0]
            raise LogUnavailable(f"the log did not acknowledge: {failure.str()}") from error


def _expecting(offset: int) -> Callable[[KafkaError | None, Message], None]:
    """Return the delivery callback; it raises out of the poll or flush that calls it."""

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        if message.offset() != offset:
            raise Conflict(
                f"{message.topic()}/{message.partition()}: a record came to {message.offset()} instead of {offset}: "
                "somebody else appends; stop the platform and run this again"
            )

    return delivered


def fetch_group(settings: Settings, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return the offsets that a consumer group has committed."""
    asked = [TopicPartition(settings.topic_prefix + topic, number) for topic, number in partitions]
    found = _of_group(settings, group, lambda consumer: consumer.committed(asked, TIMEOUT_S))
    skip = len(settings.topic_prefix)
    return {(part.topic[skip:], part.partition): part.offset for part in found if part.offset >= 0}


def store_group(settings: Settings, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Commit offsets for a consumer group that has no member now."""
    wanted = [TopicPartition(settings.topic_prefix + topic, number, offset) for (topic, number), offset in offsets.items()]
    _of_group(settings, group, lambda consumer: consumer.commit(offsets=wanted, asynchronous=False))


def _of_group(settings: Settings, group: str, act: Callable[[Consumer], T]) -> T:
    """Act as a consumer that is no member: unlike the admin client it waits for a coordinator that is starting.

    A broker that does not even name its topics is away, or refuses this user: that is not waited for.
    """
    consumer = Consumer({**librdkafka(settings), "group.id": group}, logger=LOGGER)
    try:
        consumer.list_topics(timeout=REQUEST_TIMEOUT_S)
        return act(consumer)
    finally:
        consumer.close()

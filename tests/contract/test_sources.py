"""Contract of a source of records: of the log, of archive and log as one stream, and of their stand-in in memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from events.codec import encode
from events.envelope import Envelope, Event
from events.errors import LogTruncated
from events.topics import PROGRESS, Partition, partition_for
from infra.runtime import kafka
from infra.runtime.history import open_history
from infra.runtime.kafka import librdkafka
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from projections.folding.log import Source
from tests.support.archiving import append, archive
from tests.support.counting import START, ticks
from tests.support.log import appending
from tests.support.memory_log import MemoryLog

TICKS = ticks(12, jobs=1)
PARTITION: Partition = (PROGRESS.name, partition_for(TICKS[0].subject, PROGRESS.partitions))
OTHER: Partition = (PROGRESS.name, (PARTITION[1] + 1) % PROGRESS.partitions)
EMPTY: Partition = (PROGRESS.name, (PARTITION[1] + 2) % PROGRESS.partitions)
Records = Sequence[tuple[int, bytes]]
VALUES = [encode(tick) for tick in TICKS]


@dataclass
class World:
    """A log with twelve ticks in `PARTITION`, the offsets 0 to 11, and ways to change it."""

    open: Callable[[], AbstractAsyncContextManager[Source]]


@dataclass
class Memory(World):
    """The stand-in."""

    log: MemoryLog

    async def append(self, events: Sequence[Envelope[Event]], partition: Partition) -> None:
        for event in events:
            self.log.put(partition, encode(event), time=event.time)

    async def commit(self, event: Envelope[Event], partition: Partition) -> None:
        """Append in a transaction, which has a marker."""
        self.log.put(partition, encode(event), time=event.time)
        self.log.mark(partition)

    async def forget(self, partition: Partition, start: int) -> None:
        self.log.forget(partition, start)


@dataclass
class Kafka(World):
    """The real one."""

    settings: Settings

    async def append(self, events: Sequence[Envelope[Event]], partition: Partition) -> None:
        producer = await kafka.open_producer(self.settings)
        for event in events:
            await producer.send_and_wait(
                kafka.topic_name(self.settings, PROGRESS), encode(event), partition=partition[1], timestamp_ms=_ms(event)
            )
        await producer.stop()

    async def commit(self, event: Envelope[Event], partition: Partition) -> None:
        producer = await kafka.open_producer(self.settings, transactional_id=f"{self.settings.topic_prefix}test")
        async with producer.transaction():
            await producer.send(
                kafka.topic_name(self.settings, PROGRESS), encode(event), partition=partition[1], timestamp_ms=_ms(event)
            )
        await producer.stop()

    async def forget(self, partition: Partition, start: int) -> None:
        admin = AdminClient(librdkafka(self.settings))
        wanted = TopicPartition(kafka.topic_name(self.settings, PROGRESS), partition[1], start)
        for deleted in admin.delete_records([wanted]).values():
            deleted.result()


def _ms(event: Envelope[Event]) -> int:
    return int(event.time.timestamp() * 1000)


@pytest.fixture(params=["memory", "log", "history"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Memory | Kafka]:
    """Each of them; history has the first eight ticks in files."""
    if request.param == "memory":
        log = MemoryLog()
        await log.append(*TICKS)
        yield Memory(log.open, log)
        return
    settings: Settings = request.getfixturevalue("settings")
    if request.param == "log":
        async with appending(settings) as appender:
            await appender.append(TICKS)
        yield Kafka(lambda: open_log(settings, idle_ms=50), settings)
        return
    await append(settings, TICKS[:8])
    await archive(settings, 8)
    async with appending(settings) as appender:
        await appender.append(TICKS[8:])
    yield Kafka(lambda: open_history(settings), settings)


async def read_to(source: Source, partition: Partition, end: int, records_max: int = 1000) -> list[tuple[int, bytes]]:
    """Read until a position; return the partition's records."""
    found: list[tuple[int, bytes]] = []
    while source.position(partition) < end:
        records = await source.read(records_max=records_max, wait_s=0.5)
        assert sum(map(len, records.values())) <= records_max
        found += records.get(partition, ())
    return found


async def test_every_record_is_read_once_and_in_order(world: Memory | Kafka) -> None:
    async with world.open() as source:
        for begin in (0, 5, 12):
            await source.assign({PARTITION: begin})
            assert source.position(PARTITION) == begin
            assert await read_to(source, PARTITION, 12) == list(enumerate(VALUES))[begin:]


@pytest.mark.parametrize("records_max", [1, 2, 5])
async def test_no_more_is_read_at_once_than_was_asked_for(world: Memory | Kafka, records_max: int) -> None:
    await world.append(TICKS[:3], OTHER)
    async with world.open() as source:
        await source.assign({PARTITION: 0, OTHER: 0})
        found: dict[Partition, list[bytes]] = {PARTITION: [], OTHER: []}
        while source.position(PARTITION) < 12 or source.position(OTHER) < 3:
            records = await source.read(records_max=records_max, wait_s=0.5)
            assert sum(map(len, records.values())) <= records_max
            for partition, some in records.items():
                found[partition] += [value for _, value in some]
        assert found == {PARTITION: VALUES, OTHER: VALUES[:3]}


async def test_only_what_is_assigned_is_read(world: Memory | Kafka) -> None:
    await world.append(TICKS[:3], OTHER)
    async with world.open() as source:
        await source.assign({OTHER: 0})
        await source.assign({PARTITION: 9})
        assert await read_to(source, PARTITION, 12) == list(enumerate(VALUES))[9:]
        assert await source.read(records_max=10, wait_s=0.1) == {}
        with pytest.raises(KeyError):
            source.position(OTHER)


async def test_starts_and_ends(world: Memory | Kafka) -> None:
    await world.append(TICKS[:3], OTHER)
    async with world.open() as source:
        assert await source.starts([PARTITION, OTHER, EMPTY]) == {PARTITION: 0, OTHER: 0, EMPTY: 0}
        assert await source.ends([PARTITION, OTHER, EMPTY]) == {PARTITION: 12, OTHER: 3, EMPTY: 0}
        assert await source.starts([]) == await source.ends([]) == {}


async def test_the_first_record_after_a_time(world: Memory | Kafka) -> None:
    """The ticks are a second apart."""
    async with world.open() as source:
        for time, offset in ((START - timedelta(days=1), 0), (START, 1), (START + timedelta(seconds=9.5), 10)):
            assert await source.after([PARTITION, EMPTY], time) == {PARTITION: offset, EMPTY: 0}
        assert await source.after([PARTITION], START + timedelta(seconds=11)) == {PARTITION: 12}


async def test_markers_of_transactions_are_passed_without_a_record(world: Memory | Kafka) -> None:
    for _ in range(2):
        await world.commit(TICKS[0], PARTITION)
    async with world.open() as source:
        assert await source.ends([PARTITION]) == {PARTITION: 16}
        await source.assign({PARTITION: 11})
        assert [offset for offset, _ in await read_to(source, PARTITION, 16)] == [11, 12, 14]
        assert source.position(PARTITION) == 16


async def test_what_comes_later_is_read_as_well(world: Memory | Kafka) -> None:
    async with world.open() as source:
        await source.assign({PARTITION: 0, EMPTY: 0})
        assert len(await read_to(source, PARTITION, 12)) == 12
        await world.append(TICKS[:1], EMPTY)
        assert await read_to(source, EMPTY, 1) == [(0, VALUES[0])]


async def test_the_lag_is_what_is_not_read_yet(world: Memory | Kafka) -> None:
    async with world.open() as source:
        await source.assign({PARTITION: 0, EMPTY: 0})
        await read_to(source, PARTITION, 12)
        assert await source.lag() == {PARTITION: 0, EMPTY: 0}


@pytest.mark.parametrize("world", ["memory", "log"], indirect=True)
async def test_what_is_no_longer_there_is_not_passed_over(world: Memory | Kafka) -> None:
    """Of history it is in the archive."""
    await world.forget(PARTITION, 4)
    async with world.open() as source:
        assert await source.starts([PARTITION]) == {PARTITION: 4}
        await source.assign({PARTITION: 4})
        assert [offset for offset, _ in await read_to(source, PARTITION, 12)] == list(range(4, 12))
        await source.assign({PARTITION: 2})
        with pytest.raises(LogTruncated):
            await read_to(source, PARTITION, 12)

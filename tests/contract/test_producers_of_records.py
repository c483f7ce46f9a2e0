"""Contract of what takes records for the log: aiokafka's producer and our appender, and their stand-ins in memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder

from events.codec import HEADERS
from events.envelope import Record
from events.errors import LogUnavailable
from events.topics import TELEMETRY, Topic, partition_of
from infra.runtime import kafka
from infra.runtime.settings import Settings
from producers.appender import Appender, Offsets
from tests.support.log import appending
from tests.support.producer import MemoryProducer
from tests.support.telemetry import Log

RECORDS: Sequence[Record] = [(f"key {number}".encode(), b"{}", 1000) for number in range(20)]


class Producer(Protocol):
    """The part of aiokafka's producer that the appender uses."""

    def create_batch(self) -> BatchBuilder: ...

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> Any: ...

    async def stop(self) -> None: ...


class Offering(Protocol):
    """The part of the appender that ingest uses."""

    def offer(self, topic: Topic, records: Sequence[Record]) -> Any: ...


@pytest.fixture(params=["memory", "kafka"])
async def producer(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Producer, str]]:
    """Both producers, and the topic's name."""
    if request.param == "memory":
        yield MemoryProducer(), TELEMETRY.name
        return
    settings: Settings = request.getfixturevalue("settings")
    await kafka.ensure_topics(settings)
    opened = await kafka.open_producer(settings)
    yield opened, kafka.topic_name(settings, TELEMETRY)
    await opened.stop()


async def test_batches_stand_behind_one_another(producer: tuple[Producer, str]) -> None:
    sends, topic = producer
    bases = []
    for partition, count in ((0, 3), (1, 2), (0, 4), (0, 1)):
        batch = sends.create_batch()
        for key, value, timestamp_ms in RECORDS[:count]:
            assert batch.append(key=key, value=value, timestamp=timestamp_ms, headers=HEADERS) is not None
        assert batch.record_count() == count
        bases.append((await (await sends.send_batch(batch, topic, partition=partition))).offset)
    assert bases == [0, 0, 3, 7]


async def test_a_full_batch_takes_nothing_more(producer: tuple[Producer, str]) -> None:
    sends, _ = producer
    batch = sends.create_batch()
    taken = 0
    while batch.append(key=b"k", value=b"x" * 100, timestamp=1000, headers=HEADERS) is not None:
        taken += 1
    assert batch.record_count() == taken > 0


@pytest.fixture(params=["memory", "appender"])
async def offering(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Offering, Callable[[], Offering]]]:
    """Both that records are offered to, and a way to have one that takes nothing."""
    if request.param == "memory":
        yield Log(), lambda: Log(away=True)
        return
    settings: Settings = request.getfixturevalue("settings")

    async def nowhere() -> Any:
        raise AssertionError("it is not started")

    async with appending(settings) as appender:
        yield appender, lambda: Appender(nowhere, pending_max=0)


async def test_what_is_offered_is_answered_with_its_offsets(offering: tuple[Offering, Callable[[], Offering]]) -> None:
    log, _ = offering
    expected: Offsets = {}
    for records in (RECORDS[:12], RECORDS[12:]):
        offsets: Offsets = await log.offer(TELEMETRY, records)
        for partition, numbers in offsets.items():
            assert partition[0] == TELEMETRY.name
            assert numbers == list(range(len(expected.get(partition, [])), len(expected.get(partition, [])) + len(numbers)))
            expected[partition] = [*expected.get(partition, []), *numbers]
    partitions = [partition_of(key, TELEMETRY.partitions) for key, _, _ in RECORDS]
    assert {number: len(found) for (_, number), found in expected.items()} == {n: partitions.count(n) for n in set(partitions)}


async def test_who_has_no_room_says_so_at_once(offering: tuple[Offering, Callable[[], Offering]]) -> None:
    _, full = offering
    with pytest.raises(LogUnavailable, match="too many"):
        full().offer(TELEMETRY, RECORDS)

"""The parts of ingest by themselves: how often one may come, groups of records that wait for the log."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from events.envelope import Record
from events.errors import LogUnavailable
from events.topics import TELEMETRY
from producers.appender import Appender, OutcomeUnknown
from tests.support.producer import MemoryProducer
from tests.support.waiting import eventually

# --- groups -----------------------------------------------------------------------------------------------------------


async def started(producer: MemoryProducer, **options: Any) -> Appender:
    """Return an appender that has this producer. Its time runs out when the test says so, not when the machine stops."""

    async def opened() -> Any:
        return producer

    appender = Appender(opened, timeout_s=600.0, **options)
    await appender.start()
    return appender


def records(count: int, size_bytes: int = 10) -> list[Record]:
    """Records with keys of their own."""
    return [(f"key {number}".encode(), b"x" * size_bytes, 1000) for number in range(count)]


def time_runs_out(*groups: Any) -> None:
    """Do what the timers of these groups will do."""
    for group in groups:
        assert 0 < group.deadline.when() - asyncio.get_running_loop().time() <= 600
        group.deadline._run()
        group.deadline.cancel()


async def refused(waiting: Awaitable[Any], kind: type[LogUnavailable]) -> LogUnavailable:
    """Return the error of a future."""
    with pytest.raises(kind) as raised:
        await waiting
    assert type(raised.value) is kind
    return raised.value


async def test_offers_that_come_together_are_one_batch_a_partition() -> None:
    producer = MemoryProducer()
    appender = await started(producer)
    await asyncio.gather(*(appender.offer(TELEMETRY, [record]) for record in records(12)))
    assert len(producer.sent) <= TELEMETRY.partitions
    assert sum(count for _, count in producer.sent) == 12
    await appender.stop()
    assert producer.stopped


async def test_the_offsets_of_a_group_are_those_of_its_batches_however_many() -> None:
    producer = MemoryProducer()
    appender = await started(producer)
    offsets = await appender.offer(TELEMETRY, records(100, 150))
    assert len(producer.sent) > TELEMETRY.partitions
    assert sorted(map(len, offsets.values())) == sorted(
        sum(count for number, count in producer.sent if number == partition) for partition in range(TELEMETRY.partitions)
    )
    assert all(found == list(range(len(found))) for found in offsets.values())
    await appender.stop()


async def test_what_is_not_sent_in_time_is_forgotten_and_what_is_sent_stays_open() -> None:
    producer = MemoryProducer(answers=False)
    appender = await started(producer)
    first = appender.offer(TELEMETRY, records(1))
    await eventually(lambda: bool(producer.open))
    second = appender.offer(TELEMETRY, records(1))
    assert not appender.stuck
    time_runs_out(appender._sending, appender._group)
    unknown = await refused(first, OutcomeUnknown)
    assert appender.stuck
    await refused(second, LogUnavailable)
    producer.answers = True
    producer.open[0].set_result(SimpleNamespace(offset=0))
    assert isinstance(unknown, OutcomeUnknown)
    assert list((await unknown.outcome).values()) == [[0]]
    assert len(producer.sent) == 1, "the second was not accepted, and is not written behind its caller's back"
    await appender.offer(TELEMETRY, records(1))
    assert len(producer.sent) == 2
    assert not appender.stuck
    await appender.stop()


async def test_the_buffer_is_bounded_by_count_and_by_size() -> None:
    producer = MemoryProducer(answers=False)
    appender = await started(producer, pending_max=10, pending_max_bytes=1000)
    waiting = [appender.offer(TELEMETRY, records(8))]
    with pytest.raises(LogUnavailable, match="too many"):
        appender.offer(TELEMETRY, records(3))
    with pytest.raises(LogUnavailable, match="too many"):
        appender.offer(TELEMETRY, records(1, 1000))
    await eventually(lambda: sum(count for _, count in producer.sent) == 8)
    time_runs_out(appender._sending)
    await refused(waiting[0], OutcomeUnknown)
    for batch in producer.open:
        batch.set_result(SimpleNamespace(offset=0))
    await appender.stop()


async def test_a_caller_who_goes_away_disturbs_nobody() -> None:
    producer = MemoryProducer(answers=False)
    appender = await started(producer)
    gone, stays = (appender.offer(TELEMETRY, records(1)) for _ in range(2))
    gone.cancel()
    await eventually(lambda: bool(producer.open))
    producer.open[0].set_result(SimpleNamespace(offset=7))
    assert list((await stays).values()) == [[7, 8]]
    await appender.stop()


async def test_a_broken_producer_is_replaced() -> None:
    producer = MemoryProducer(broken=True)
    appender = await started(producer)
    await refused(appender.offer(TELEMETRY, records(1)), LogUnavailable)
    assert producer.stopped
    producer.broken = False
    assert await appender.offer(TELEMETRY, records(1))
    await appender.stop()


async def test_a_group_that_meets_a_bug_is_refused_and_the_next_one_is_sent() -> None:
    producer = MemoryProducer()
    appender = await started(producer)
    send_batch, producer.send_batch = producer.send_batch, None  # type: ignore[assignment, method-assign]
    with pytest.raises(LogUnavailable):
        await appender.offer(TELEMETRY, records(1))
    producer.send_batch = send_batch  # type: ignore[method-assign]
    assert sum(map(len, (await appender.offer(TELEMETRY, records(2))).values())) == 2
    await appender.stop()

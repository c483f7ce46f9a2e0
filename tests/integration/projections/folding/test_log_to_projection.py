"""From the log to a projection: exactly once in effect, on the real Kafka and PostgreSQL.

The traps of folding with Faust agents on topics (events of a failed handler acknowledged, seeks overridden, no end on
SIGTERM) are named in docs/adr/0001; here ours walks through each.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from events.envelope import Envelope, Event
from events.errors import LogTruncated, LogUnavailable, PositionConflict
from events.topics import PROGRESS, VIDEOS, Topic, partition_for
from infra.runtime import kafka, postgres
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.settings import Settings
from processors.agents.app import add_projection, create_app
from projections.folding.fold import Projection
from projections.folding.log import LogReader
from projections.folding.rebuild import rebuild
from projections.folding.runner import Batch, Runner, install
from tests.support.apps import nothing
from tests.support.counting import counting, ticks
from tests.support.feeding import Quiet, bury, services_of
from tests.support.log import appending
from tests.support.waiting import eventually


@asynccontextmanager
async def reading(settings: Settings, positions: Mapping[tuple[str, int], int]) -> AsyncIterator[LogReader]:
    """Yield a reader of the progress topic."""
    source = LogConsumer(settings, idle_ms=50)
    try:
        reader = LogReader(source)
        await reader.seek(positions)
        yield reader
    finally:
        await source.close()


async def read(reader: LogReader, count: int) -> list[Batch]:
    """Return batches with `count` records together."""
    batches: list[Batch] = []
    async with asyncio.timeout(60):
        while sum(len(batch.records) for batch in batches) < count:
            batch, _ = await reader.read(records_max=7, wait_s=0.5)
            batches += [batch] if batch else []
    return batches


async def stored_ids(connection: Any, name: str = "counting") -> dict[str, list[str]]:
    """Return what readers see."""
    rows = await (await connection.execute(f"SELECT job_id, ids FROM {name}.seen")).fetchall()
    return dict(rows)


def expected(events: list[Envelope[Event]]) -> dict[str, list[str]]:
    """Return what a fold of the events must give."""
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.subject, []).append(event.id)
    return found


async def test_a_batch_counts_once_and_never_with_a_gap(settings: Settings) -> None:
    events = ticks(40)
    pool = await postgres.open_pool(settings)
    async with appending(settings) as appender, pool.connection() as connection:
        await appender.append(events)
        runner = await install(connection, counting())
        async with reading(settings, await runner.positions(connection)) as reader:
            batches = await read(reader, 40)
        with pytest.raises(PositionConflict):
            await runner.apply(connection, batches[-1])
        for batch in batches:
            await runner.apply(connection, batch)
            with pytest.raises(PositionConflict):
                await runner.apply(connection, batch)
        assert await stored_ids(connection) == expected(events)
        assert sum((await runner.counts(connection)).values()) == 40
    await pool.close()


async def test_a_rebuild_is_equal_readers_see_no_gap_and_the_old_runner_is_refused(settings: Settings) -> None:
    events = ticks(60)
    projection = counting()
    pool = await postgres.open_pool(settings)
    async with appending(settings) as appender, pool.connection() as connection, pool.connection() as reader_connection:
        await appender.append(events)
        old = await install(connection, projection)
        async with reading(settings, await old.positions(connection)) as reader:
            for batch in await read(reader, 60):
                await old.apply(connection, batch)
            faults: list[BaseException] = []
            stop = asyncio.Event()

            async def keep_reading() -> int:
                reads = 0
                while not stop.is_set():
                    try:
                        assert await stored_ids(reader_connection) == expected(events)
                    except BaseException as error:
                        faults.append(error)
                        raise
                    reads += 1
                    await asyncio.sleep(0)
                return reads

            watching = asyncio.create_task(keep_reading())
            source = LogConsumer(settings, idle_ms=50)
            done = await rebuild(projection, connection, source)
            await source.close()
            stop.set()
            assert await watching > 0
            assert (done.version, done.equal, faults) == (2, True, [])
            more = ticks(3)
            await appender.append(more)
            (batch, *_) = await read(reader, 3)
            with pytest.raises(PositionConflict):
                await old.apply(connection, batch)
            new = await install(connection, projection)
            await new.apply(connection, batch)
    await pool.close()


async def test_a_clock_that_runs_ahead_loses_nothing(settings: Settings) -> None:
    """Records have their events' times, and a broker refuses by itself what is more than an hour ahead."""
    ahead = ticks(3, start=datetime.now(UTC) + timedelta(days=2))
    async with appending(settings) as appender:
        await appender.append(ahead)
        async with reading(settings, dict.fromkeys(((PROGRESS.name, n) for n in range(PROGRESS.partitions)), 0)) as reader:
            batches = await read(reader, 3)
    assert {r.envelope.id for batch in batches for r in batch.records} == {event.id for event in ahead}


class Boom:
    """A fold that fails at chosen calls."""

    def __init__(self, at: set[int]) -> None:
        self.at = at
        self.calls = 0

    def __call__(self) -> None:
        """Count a call; raise when its turn has come."""
        self.calls += 1
        if self.calls in self.at:
            raise RuntimeError("the handler failed in mid-stream")


def failing(at: set[int], monkeypatch: pytest.MonkeyPatch) -> Projection:
    """Return a projection whose runner fails at these batches, after it has written everything but before the commit."""
    projection = counting()
    boom = Boom(at)
    write = Runner.write

    async def write_then_fail(self: Runner, connection: Any, batch: Batch) -> None:
        await write(self, connection, batch)
        boom()

    monkeypatch.setattr(Runner, "write", write_then_fail)
    return projection


async def test_an_agent_that_raises_loses_nothing_and_doubles_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    events = ticks(30)
    metrics = Quiet()
    pool = await postgres.open_pool(settings)
    async with appending(settings) as appender:
        await appender.append(events[:20])
        producer = await kafka.open_producer(settings)
        services = services_of(settings, pool, appender.append, bury(settings, producer), metrics=metrics)
        app = create_app(settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
        projection = failing({1, 2}, monkeypatch)
        async with pool.connection() as connection:
            await install(connection, projection)
        add_projection(app, projection, services)
        await app.start()
        await producer.send_and_wait(kafka.topic_name(settings, PROGRESS), b"{not an event", partition=0)
        await appender.append(events[20:])
        async with pool.connection() as connection:
            await eventually(lambda: stored_ids(connection), lambda found: found == expected(events))
        async with asyncio.timeout(30):
            await app.stop()
        assert metrics.failures == 2
        await producer.stop()
    consumer = await kafka.open_consumer(settings, idle_ms=50)
    dead = TopicPartition(kafka.topic_name(settings, PROGRESS.dead_letters), 0)
    consumer.assign([dead])
    letter = (await consumer.getone()).value
    assert letter is not None and b"not JSON" in letter and b'"topic":"progress"' in letter
    await consumer.stop()
    await pool.close()


class LateLog:
    """A consumer of a log whose first three records are gone."""

    async def starts(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return where each partition starts."""
        return dict.fromkeys(partitions, 3)

    async def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Remember."""
        self.assigned = positions


@pytest.mark.parametrize(("topic", "position"), [(PROGRESS, 2), (VIDEOS, 2), (VIDEOS, 0)])
async def test_a_log_that_starts_too_late_is_an_error(topic: Topic, position: int) -> None:
    reader = LogReader(LateLog())  # type: ignore[arg-type]
    with pytest.raises(LogTruncated, match="starts at 3"):
        await reader.seek({(topic.name, 0): position})


async def test_all_that_there_is_of_a_topic_kept_for_days_begins_where_it_begins() -> None:
    log = LateLog()
    reader = LogReader(log)  # type: ignore[arg-type]
    await reader.seek({(PROGRESS.name, 0): 0})
    assert (log.assigned, reader.truncated) == ({(PROGRESS.name, 0): 3}, True)


async def test_an_appender_without_a_broker_refuses_in_bounded_time(settings: Settings) -> None:
    async with appending(settings) as appender:
        await appender.append(ticks(1))

        async def away() -> Any:
            raise KafkaConnectionError("nobody is there")

        appender._open_producer = away
        await appender._close_producer()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LogUnavailable):
            await appender.append(ticks(1))
        assert loop.time() - begun < 30
        appender._open_producer = lambda: kafka.open_producer(settings)
        positions = await appender.append(ticks(2))
        assert len(positions) == 2


async def test_a_feed_whose_reader_was_fenced_opens_another(settings: Settings) -> None:
    """As its own reader was after a restart of the broker."""
    projection = counting()
    group, member = f"{settings.topic_prefix}kinolog.{projection.name}", "reader"
    pool = await postgres.open_pool(settings)
    async with appending(settings) as appender, asyncio.timeout(100):
        metrics = Quiet()
        own = {"metrics": metrics, "open_source": lambda group, gather_ms: LogConsumer(settings, group=group, member=member)}
        services = services_of(settings, pool, appender.append, nothing, **own)
        app = create_app(settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
        feed = add_projection(app, projection, services)
        await app.start()
        await feed.ready.wait()
        other = LogConsumer(settings, group=group, member=member)
        await other.subscribe([PROGRESS.name])
        while metrics.failures == 0:
            await other.read(records_max=1, wait_s=0.1)
        await other.close()
        events = ticks(20)
        await appender.append(events)
        async with pool.connection() as connection:
            await eventually(lambda: stored_ids(connection), lambda found: found == expected(events))
        await app.stop()
    await pool.close()


async def test_a_reader_that_gathers_wakes_once_for_what_comes_one_by_one(settings: Settings) -> None:
    async def rounds(source: LogConsumer, count: int) -> int:
        """Return in how many turns so many events came."""
        turns = 0
        while count > 0:
            if found := await source.read(records_max=100, wait_s=1.0):
                turns, count = turns + 1, count - sum(map(len, found.values()))
        return turns

    events = ticks(30, jobs=1)
    partition = PROGRESS.name, partition_for(events[0].subject, PROGRESS.partitions)
    async with asyncio.timeout(60), appending(settings) as appender, open_log(settings, gather_ms=1000) as source:
        await source.assign({partition: 0})
        reading = asyncio.create_task(rounds(source, len(events)))
        for event in events:
            await appender.append([event])
        assert await reading < len(events) / 2


async def test_positions_are_those_of_the_log(settings: Settings) -> None:
    events = ticks(500, jobs=20)
    async with appending(settings) as appender:
        halves = await asyncio.gather(*(appender.append(events[n : n + 50]) for n in range(0, 500, 50)))
        expected = {
            partition: event.id
            for half, start in zip(halves, range(0, 500, 50), strict=True)
            for partition, event in zip(half, events[start : start + 50], strict=True)
        }
        assert len(expected) == 500
        async with reading(settings, {(PROGRESS.name, n): 0 for n in range(PROGRESS.partitions)}) as reader:
            for batch in await read(reader, 500):
                for record in batch.records:
                    assert expected[record.topic, record.partition, record.offset] == record.envelope.id  # type: ignore[index]

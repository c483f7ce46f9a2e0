"""Feeds and runners in a test's own process, on the real log and database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from psycopg import AsyncConnection

from events.envelope import Event, Recorded
from infra.runtime import kafka, postgres
from infra.runtime.clock import SystemClock
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.settings import Settings
from processors.agents.app import App, Services, create_app
from processors.agents.dead_letters import bury_with, recall_with
from processors.agents.feed import Feed
from processors.agents.outbox import SQL as OUTBOX
from processors.agents.process import Append
from projections.folding.fold import Projection
from projections.folding.log import DeadLetter, LogReader
from projections.folding.runner import Batch, Runner, Slice, install
from projections.registry import PROJECTIONS
from tests.support.folding import gather, history
from tests.support.log import appending

Bury = Callable[[Sequence[DeadLetter]], Awaitable[None]]
BATCH = 37
"""Records in a batch, so that batches end anywhere."""


async def catch_up(settings: Settings, runner: Runner, connection: AsyncConnection[Any]) -> None:
    """Fold what is missing to the end of the log, batch by batch."""
    async with open_log(settings, idle_ms=50) as source:
        reader = LogReader(source, runner.projection)
        await reader.seek(await runner.positions(connection))
        ends = await reader.ends()
        while reader.missing(ends):
            batch, _dead = await reader.read(records_max=BATCH, wait_s=0.2)
            if batch is not None:
                await runner.apply(connection, batch)


class Quiet:
    """Metrics that only count failures."""

    def __init__(self) -> None:
        self.failures = 0

    def folded(self, name: str, events: int, seconds: float) -> None:
        """Ignore."""

    def behind(self, name: str, lag: Mapping[tuple[str, int], int]) -> None:
        """Ignore."""

    def failed(self, name: str) -> None:
        """Count."""
        self.failures += 1


def services_of(settings: Settings, pool: postgres.Pool, append: Append, buried: Bury, **parts: Any) -> Services:
    """Return the services of feeds on the real log and database; `buried` gets dead letters, `parts` replace the usual ones."""
    usual: dict[str, Any] = {
        "recall": recall_with(lambda: open_log(settings, idle_ms=50)),
        "open_source": lambda group, gather_ms: LogConsumer(settings, group=group, idle_ms=100, gather_ms=gather_ms),
        "metrics": Quiet(),
        "clock": SystemClock(),
        "topic_prefix": settings.topic_prefix,
    }
    return Services(pool=pool, append=append, bury=buried, **(usual | parts))


def bury(settings: Settings, producer: AIOKafkaProducer) -> Bury:
    """Return what buries letters on the real log, uncounted."""
    return bury_with(producer, topic_prefix=settings.topic_prefix, observe=lambda topic, reader: None)


async def fold_live(settings: Settings, connection: AsyncConnection[object]) -> None:
    """Fold all that is on the log into every projection, batch by batch, as the processors do."""
    for projection in PROJECTIONS.values():
        await catch_up(settings, await install(connection, projection), connection)


async def write(connection: AsyncConnection[Any], projection: Projection, log: Sequence[Recorded[Event]]) -> None:
    """Let the runner fold the log in two batches per partition."""
    runner = await install(connection, projection)
    partitions: dict[tuple[str, int], list[Recorded[Event]]] = {}
    topics = {topic.name for topic in projection.topics}
    for record in history(log):
        if record.topic in topics:
            partitions.setdefault((record.topic, record.partition), []).append(record)
    for (topic, partition), records in partitions.items():
        middle = len(records) // 2
        for start, stop in ((0, middle), (middle, len(records))):
            part = Slice(topic, partition, start, stop, stop - start, None)
            await runner.apply(connection, Batch((part,), records[start:stop], gather(projection, records[start:stop])))


@asynccontextmanager
async def processing(settings: Settings, add: Callable[[App, Services], Sequence[Feed]], **limits: Any) -> AsyncIterator[Any]:
    """Run feeds on the real log and database; yield (appender, pool, feeds)."""
    pool = await postgres.open_pool(settings)
    async with appending(settings) as appender, asyncio.timeout(120):
        producer = await kafka.open_producer(settings)
        services = services_of(settings, pool, appender.append, bury(settings, producer), **limits)
        async with pool.connection() as connection:
            await connection.execute(OUTBOX["create"])
        app = create_app(settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
        feeds = add(app, services)
        await app.start()
        for feed in feeds:
            await feed.ready.wait()
        try:
            yield appender, pool, feeds
        finally:
            await app.stop()
            await producer.stop()
            await pool.close()

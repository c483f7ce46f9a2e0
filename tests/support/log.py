"""Puts events on the log, and says what is on it and whether it is right, for tests."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from events.envelope import Event, Recorded
from events.jobs import JobCompleted
from events.topics import TOPICS, Partition
from infra.runtime import kafka, postgres
from infra.runtime.appender import appender_of
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.settings import Settings
from processors.registry import FOLDS
from producers.appender import Appender
from projections.folding.log import LogReader, stretches
from projections.folding.positions import Positions, snapshot
from projections.history.verify import verify
from tests.support.waiting import PATIENCE_S, eventually


@asynccontextmanager
async def appending(settings: Settings) -> AsyncIterator[Appender]:
    """Yield a started appender, on topics that are there; it waits for the broker for as long as a machine may stop."""
    await kafka.ensure_topics(settings)
    appender = appender_of(settings, timeout_s=60)
    await appender.start()
    try:
        yield appender
    finally:
        await appender.stop()


async def read_topic(settings: Settings, name: str) -> list[Recorded[Event]]:
    """Return every event of a topic, partition by partition, in order."""
    source = LogConsumer(settings, idle_ms=50)
    try:
        reader = LogReader(source)
        await reader.seek({(name, number): 0 for number in range(TOPICS[name].partitions)})
        found: list[Recorded[Event]] = []
        async for records, dead in reader.to_end():
            assert not dead, dead
            found += records
        return sorted(found, key=lambda recorded: (recorded.partition, recorded.offset))
    finally:
        await source.close()


async def assert_whole(settings: Settings) -> dict[str, Any]:
    """Check that nothing is lost, doubled or out of order; return what was checked."""
    source = LogConsumer(settings, idle_ms=50)
    try:
        async with postgres.connected(settings) as connection:
            checked = await verify(connection, source, FOLDS.values())
    finally:
        await source.close()
    assert not checked["findings"], "\n".join(checked["findings"])
    return checked


async def settled(settings: Settings, timeout_s: float = PATIENCE_S) -> None:
    """Wait until every projection has folded what is on the log now: they read it at their own pace, one before another."""
    partitions = {(topic.name, number) for one in FOLDS.values() for topic in one.topics for number in range(topic.partitions)}
    async with open_log(settings, idle_ms=50) as log:
        last: dict[Partition, int] = {}
        async for partition, records in stretches(
            log, await log.starts(partitions), await log.ends(partitions), records_max=10_000
        ):
            last[partition] = records[-1][0] + 1
    async with postgres.connected(settings) as connection:
        for name in FOLDS:
            await eventually(partial(snapshot, connection, name), lambda read: read.reached(Positions(last)), timeout_s=timeout_s)


async def completions(settings: Settings) -> Counter[str]:
    """Return how often each job was completed."""
    facts = await read_topic(settings, "jobs")
    return Counter(fact.envelope.data.job_id for fact in facts if isinstance(fact.envelope.data, JobCompleted))

"""What is on the log and whether it is right, for tests."""

from collections import Counter
from typing import Any

from events.envelope import Event, Recorded
from events.topics import TOPICS
from infra.runtime import postgres
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from projections.log import LogReader
from projections.verify import verify


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
            checked = await verify(connection, source)
    finally:
        await source.close()
    assert not checked["findings"], "\n".join(checked["findings"])
    return checked


async def completions(settings: Settings) -> Counter[str]:
    """Return how often each job was completed."""
    facts = await read_topic(settings, "jobs")
    return Counter(fact.envelope.data.job_id for fact in facts if type(fact.envelope.data).__name__ == "JobCompleted")

"""What is on the log and whether it is right, for tests."""

from collections import Counter
from typing import Any

import psycopg
from aiokafka import TopicPartition

from events.envelope import Event, Recorded
from events.topics import TOPICS
from infra.runtime import kafka
from infra.runtime.settings import Settings
from projections.log import LogReader
from projections.verify import verify


async def read_topic(settings: Settings, name: str) -> list[Recorded[Event]]:
    """Return every event of a topic, partition by partition, in order."""
    topic = TOPICS[name]
    consumer = await kafka.open_consumer(settings, idle_ms=50)
    try:
        partitions = [TopicPartition(kafka.topic_name(settings, topic), number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        reader = LogReader(consumer, topic_prefix=settings.topic_prefix)
        await reader.seek({(name, number): 0 for number in range(topic.partitions)})
        ends = await consumer.end_offsets(partitions)
        found: list[Recorded[Event]] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                batch, dead = await reader.read(records_max=5000, wait_ms=200)
                assert not dead, dead
                found += batch.records if batch else []
        return sorted(found, key=lambda recorded: (recorded.partition, recorded.offset))
    finally:
        await consumer.stop()


async def assert_whole(settings: Settings) -> dict[str, Any]:
    """Check that nothing is lost, doubled or out of order; return what was checked."""
    consumer = await kafka.open_consumer(settings, idle_ms=50)
    try:
        url = settings.postgres_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
            checked = await verify(connection, consumer, topic_prefix=settings.topic_prefix)
    finally:
        await consumer.stop()
    assert not checked["findings"], "\n".join(checked["findings"])
    return checked


async def completions(settings: Settings) -> Counter[str]:
    """Return how often each job was completed."""
    facts = await read_topic(settings, "jobs")
    return Counter(fact.envelope.data.job_id for fact in facts if type(fact.envelope.data).__name__ == "JobCompleted")

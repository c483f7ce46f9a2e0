"""Checks that nothing is lost, doubled or out of order: every projection against a fold of the whole log, every job's
facts against the rules that hold whatever crashed."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import AsyncConnection

from events.topics import JOBS
from projections.audit import JobAudit
from projections.log import LogReader
from projections.rebuild import BATCH_RECORDS, rebuild
from projections.registry import PROJECTIONS


async def verify(connection: AsyncConnection[Any], consumer: AIOKafkaConsumer, *, topic_prefix: str = "") -> dict[str, Any]:
    """Return what was checked, and a finding for each thing that is wrong.

    `{"projections": {name: {"events", "equal", "digests"}}, "jobs": number, "findings": [sentence, …]}`. `consumer` is
    started, ungrouped and reads committed records. Nothing is changed.
    """
    findings: list[str] = []
    projections = {}
    for projection in PROJECTIONS.values():
        done = await rebuild(projection, connection, consumer, topic_prefix=topic_prefix, keep=False)
        projections[done.name] = {"events": done.events, "equal": done.equal, "digests": done.digests}
        if done.equal is None:
            findings.append(f"{done.name} was made by other code; run: kinolog rebuild {done.name}")
        elif not done.equal:
            findings.append(f"{done.name} differs from a fold of the whole log; run: kinolog rebuild {done.name}")
    audit = await audit_jobs(consumer, topic_prefix=topic_prefix)
    findings += audit.complaints
    return {"projections": projections, "jobs": audit.jobs, "findings": findings}


async def audit_jobs(consumer: AIOKafkaConsumer, *, topic_prefix: str = "") -> JobAudit:
    """Read the topic jobs from its start to its present end and check every fact."""
    partitions = [TopicPartition(topic_prefix + JOBS.name, number) for number in range(JOBS.partitions)]
    consumer.assign(partitions)
    reader = LogReader(consumer, topic_prefix=topic_prefix)
    await reader.seek({(JOBS.name, number): 0 for number in range(JOBS.partitions)})
    ends = await consumer.end_offsets(partitions)
    audit = JobAudit()
    for partition in partitions:
        while await consumer.position(partition) < ends[partition]:
            batch, dead = await reader.read(records_max=BATCH_RECORDS, wait_ms=500)
            audit.complaints += [f"{letter.topic}/{letter.partition}/{letter.offset}: {letter.reason}" for letter in dead]
            for recorded in batch.records if batch else ():
                audit.see(recorded)
    return audit

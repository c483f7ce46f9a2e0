"""Readers that share topics: one that was killed and comes back goes on at once."""

import asyncio

import pytest
from confluent_kafka import Consumer

from events.topics import JOBS
from infra.runtime import kafka, log_consumer
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings

EVERYTHING = {(JOBS.name, number) for number in range(JOBS.partitions)}
JOINED_S, SESSION_S = 50, 200
"""Who waited for the end of a session would not have joined in time, however slow the machine is."""


async def joined(settings: Settings, member: str) -> LogConsumer:
    """Return a reader that has all partitions."""
    reader = LogConsumer(settings, group=f"{settings.topic_prefix}readers", member=member, idle_ms=50)
    await reader.subscribe([JOBS.name])
    async with asyncio.timeout(JOINED_S):
        while reader.assigned != EVERYTHING:
            await reader.read(records_max=1, wait_s=0.1)
    return reader


async def test_a_member_that_comes_back_under_its_name_does_not_wait_for_the_end_of_its_last_session(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = {"session.timeout.ms": 1000 * SESSION_S}
    monkeypatch.setattr(log_consumer, "Consumer", lambda config, **more: Consumer(config | session, **more))
    await kafka.ensure_topics(settings, [JOBS])
    name = kafka.member_name(settings.processors_port)
    before = await joined(settings, name)  # it never leaves, as one that was killed
    after = await joined(settings, name)
    await asyncio.gather(before.close(), after.close())

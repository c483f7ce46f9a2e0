"""Ticks on the real log: time passes for a process once it has folded what was on the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from events.topics import VIDEOS
from events.videos import UploadAbandoned
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from processors.agents import app as agents
from processors.agents.app import Services, tick
from processors.agents.process import run_batch
from projections.folding.log import LogReader
from projections.folding.runner import install
from tests.support.deciding import VIDEO
from tests.support.expiring import LIFE, PROCESS, edited, started
from tests.support.feeding import processing
from tests.support.log import read_topic


async def folded(settings: Settings, services: Services) -> None:
    """Let the process handle what is on the log."""
    async with open_log(settings, idle_ms=50) as source, services.pool.connection() as connection:
        runner = await install(connection, PROCESS.projection)
        reader = LogReader(source, PROCESS.projection)
        await reader.seek(await runner.positions(connection))
        ends = await reader.ends()
        while reader.missing(ends):
            batch, _dead = await reader.read(records_max=10, wait_s=0.2)
            if batch is not None:
                await run_batch(PROCESS, runner, connection, services.append, batch, services.clock.now())


async def expired(settings: Settings) -> list[str]:
    """Return the uploads that were given up."""
    found = [recorded.envelope.data for recorded in await read_topic(settings, VIDEOS.name)]
    return [event.video_id for event in found if isinstance(event, UploadAbandoned)]


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator[tuple[Any, Services]]:
    """Yield an appender and the services of a processor without feeds."""
    opened: list[Services] = []

    def add(app: Any, services: Services) -> list[Any]:
        opened.append(services)
        return []

    async with processing(settings, add) as (appender, _pool, _feeds):
        yield appender, opened[0]


async def test_a_deadline_passes_only_when_all_is_known_that_could_have_put_it_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with parts(settings) as (appender, services):
        now = datetime.now(UTC)
        other = VIDEO[:-1] + "2"
        await appender.append([started(VIDEO, now - 2 * LIFE), started(other, now - 2 * LIFE)])
        await folded(settings, services)
        await appender.append([edited(VIDEO, now, 1)])

        monkeypatch.setattr(agents, "FOLDED_S", 0.5)
        assert not await tick(PROCESS, services), "an event is on the log that was not folded"
        assert await expired(settings) == []

        monkeypatch.undo()
        await folded(settings, services)
        for _ in range(2):
            assert await tick(PROCESS, services)
            assert await expired(settings) == [other]
            await folded(settings, services)


async def test_a_process_that_is_far_behind_has_no_ticks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with parts(settings) as (appender, services):
        await folded(settings, services)
        await appender.append([edited(VIDEO, datetime.now(UTC), number) for number in range(3)])
        monkeypatch.setattr(agents, "BEHIND_MAX", 2)
        assert not await tick(PROCESS, services)

"""One feed of the real processors that hangs, or waits for its rebuild, is named while the others go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from events.envelope import Envelope
from events.jobs import JobSubmitted
from events.objects import source_key
from events.topics import JOB_REQUESTS
from events.videos import VideoUploaded
from infra.runtime import kafka
from infra.runtime.clock import system_context
from infra.runtime.postgres import connected
from infra.runtime.settings import Settings
from infra.runtime.watchdog import EXIT_CODE
from producers import uploads
from projections import catalog
from projections.folding.positions import is_served
from projections.folding.store import SQL
from tests.support.log import appending, read_topic
from tests.support.platform import COMMANDS, Platform
from tests.support.waiting import eventually

PATIENCE_S = 200.0


@pytest.fixture
async def alone(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    """Processors alone, of which each loop must show a sign of life every three seconds."""
    monkeypatch.setitem(COMMANDS, "processors", ["tests.support.hanging_processors", str(tmp_path)])
    running = Platform(settings, stall_max_s=3.0)
    await kafka.ensure_topics(settings)
    await running.start("processors")
    try:
        await running.ready("processors")
        yield running
    finally:
        await running.__aexit__(None, None, None)


async def uploaded(settings: Settings) -> str:
    """Say on the log that a video was uploaded."""
    context = system_context("test")
    video_id = context.new_id()
    begun = uploads.started(context, video_id=video_id, filename="a.mp4", size_bytes=1, multipart_id=None, part_bytes=None)
    event = VideoUploaded(video_id=video_id, title="a", filename="a.mp4", object_key=source_key(video_id), size_bytes=1)
    async with appending(settings) as appender:
        await appender.append([begun, Envelope(context.new_id(), context.source, video_id, context.now, event, video_id)])
    return video_id


def submitted(settings: Settings, video_id: str) -> Callable[[], Awaitable[bool]]:
    """Return the function that says whether planning has asked for work on a video."""

    async def asked() -> bool:
        requests = [recorded.envelope.data for recorded in await read_topic(settings, JOB_REQUESTS.name)]
        return any(isinstance(request, JobSubmitted) and request.video_id == video_id for request in requests)

    return asked


async def test_a_feed_that_hangs_is_named_while_the_others_go_on_and_goes_on_itself(alone: Platform, tmp_path: Path) -> None:
    (tmp_path / "hang").touch()
    video_id = await uploaded(alone.settings)

    await eventually(submitted(alone.settings, video_id))

    async def is_named() -> bool:
        said = (await alone.missing("processors")).get("catalog", "")
        return "stands still at videos/" in said and video_id in said and "showed no sign of life" in said

    await eventually(is_named, timeout_s=PATIENCE_S)
    (tmp_path / "hang").unlink()
    await alone.ready("processors")
    assert alone.processes["processors"].returncode is None, "in the same process"


async def test_a_feed_that_blocks_all_ends_the_process_which_goes_on_when_it_is_started_again(
    alone: Platform, tmp_path: Path
) -> None:
    (tmp_path / "block").touch()
    video_id = await uploaded(alone.settings)

    async with asyncio.timeout(PATIENCE_S):
        assert await alone.processes["processors"].wait() == EXIT_CODE

    said = alone.log("processors")
    assert "process_hangs" in said and "write_or_hang" in said, "where it hung"
    (tmp_path / "block").unlink()
    await alone.start("processors")
    await alone.ready("processors")
    await eventually(submitted(alone.settings, video_id))


async def test_while_a_projection_is_rebuilt_its_old_version_serves_and_planning_works(alone: Platform) -> None:
    settings = alone.settings
    before = await uploaded(settings)
    await eventually(listed(settings, before))
    await alone.retire("processors")
    async with connected(settings) as connection:
        for table in ("projections", "versions"):
            await connection.execute(f"UPDATE kinolog.{table} SET digest = 'other tables' WHERE name = 'catalog'")
        await connection.execute(SQL["lock_rebuild"], {"name": "catalog"})  # as if another process were at it

        await alone.start("processors")
        video_id = await uploaded(settings)
        await eventually(submitted(settings, video_id))

        async def is_named() -> bool:
            said = await alone.missing("processors")
            return said.keys() == {"catalog"} and "is being rebuilt" in said["catalog"]

        await eventually(is_named)
        assert await listed(settings, before)() and not await listed(settings, video_id)()
    await alone.ready("processors")
    await eventually(listed(settings, video_id))
    assert await listed(settings, before)()


def listed(settings: Settings, video_id: str) -> Callable[[], Awaitable[bool]]:
    """Return the function that says whether readers see a video."""

    async def seen() -> bool:
        async with connected(settings) as connection:
            return await is_served(connection, "catalog") and await catalog.by_id(connection, video_id) is not None

    return seen

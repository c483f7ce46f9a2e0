"""Streams of live status, as a client reads them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from api.admin.live.hub import Hub
from events.envelope import Envelope, Event
from events.progress import ProgressTicked
from infra.runtime.clock import SystemClock
from tests.support.footage import START, id_of
from tests.support.memory_log import MemoryLog


class Heard(NamedTuple):
    """One message as a client has it."""

    event: str
    id: str | None
    data: dict[str, Any]


def parse(stream: bytes) -> list[Heard]:
    """Read what was sent as the standard has it; how long to wait before coming back is the client's own affair."""
    heard = []
    for block in filter(None, stream.decode().split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert fields.get("retry", "3000") == "3000"
        if "event" in fields:
            heard.append(Heard(fields["event"], fields.get("id"), json.loads(fields["data"])))
    return heard


def tick(number: int, job: str = "job", video: str = "video") -> Envelope[Event]:
    event = ProgressTicked(
        job_id=id_of(job), video_id=id_of(video), worker_id="w", epoch=1, kind="encode", step="encode", percent=number
    )
    return Envelope(id_of(f"{job} {number}"), "kinolog/test", id_of(job), START, event, id_of(video))


@asynccontextmanager
async def running(log: MemoryLog, *, kept_max: int = 1000) -> AsyncIterator[Hub]:
    hub = Hub(log.open, SystemClock(), kept_max=kept_max)
    following = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def percents(heard: list[Heard]) -> list[float]:
    return [one.data["progress_percent"] for one in heard if one.event == "progress"]

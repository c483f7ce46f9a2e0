"""A crowd that comes back together on the real log: every stream goes on after the last message, to a clean end."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import ge

from api.admin.live.hub import LISTENERS_MAX, REPLAYS_MAX, Hub
from api.app import REQUESTS_MAX
from infra.runtime import kafka
from infra.runtime.clock import SystemClock
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.settings import Settings
from tests.support.apps import TOKEN, make
from tests.support.live import parse, percents, tick
from tests.support.log import appending
from tests.support.serving import Served, served
from tests.support.waiting import eventually

LISTENERS = 500
"""5,000 by hand."""
MESSAGES = 40
KEPT = 10
"""So few in the ring that everybody reads the log."""


async def hear(server: Served, last: str, beginning: asyncio.Semaphore, caught_up: asyncio.Semaphore) -> list[float]:
    """Return what a listener hears until the server ends the stream, which it does in HTTP's own way."""
    async with beginning:
        reader, writer = await server.connect()
        head = f"GET /api/events/progress HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nLast-Event-ID: {last}\r\n\r\n"
        writer.write(head.encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    stream = b""
    while size := int(await reader.readline(), 16):
        stream += (await reader.readexactly(size + 2))[:size]
        if stream.count(b"event: progress") == MESSAGES:
            caught_up.release()
    writer.close()
    return percents(parse(stream))


@asynccontextmanager
async def closing(consumer: LogConsumer) -> AsyncIterator[LogConsumer]:
    """Yield a consumer, and close it."""
    try:
        yield consumer
    finally:
        await consumer.close()


async def test_streams_of_a_crowd_that_comes_back_do_not_break(settings: Settings) -> None:
    opened: list[LogConsumer] = []
    freed = 0

    class Counted(LogConsumer):
        async def close(self) -> None:
            nonlocal freed
            await super().close()
            freed += not hasattr(self, "_consumer")

    def counted() -> LogConsumer:
        opened.append(Counted(settings, idle_ms=50))
        return opened[-1]

    await kafka.ensure_topics(settings)
    async with appending(settings) as appender:
        await appender.append([tick(number) for number in range(MESSAGES)])
    hub = Hub(lambda: closing(counted()), SystemClock(), kept_max=KEPT)
    following = asyncio.create_task(hub.run())
    gc.disable()  # what is closed is freed without the collector, which looks rarely in the apps
    try:
        async with asyncio.timeout(500):
            start = hub.progress.id_of(tuple(0 for _ in hub.progress.partitions))
            async with (
                served(make("admin", live=hub), requests_max=REQUESTS_MAX + LISTENERS_MAX) as server,
                open_log(settings) as log,
            ):
                ends = await log.ends(hub.progress.partitions)
                end = tuple(ends[partition] for partition in hub.progress.partitions)
                await eventually(lambda: hub.progress.reached, lambda reached: all(map(ge, reached, end)))
                beginning, caught_up = asyncio.Semaphore(500), asyncio.Semaphore(0)
                async with asyncio.TaskGroup() as group:
                    listeners = [group.create_task(hear(server, start, beginning, caught_up)) for _ in range(LISTENERS)]
                    for _ in range(LISTENERS):
                        await caught_up.acquire()
                    assert hub.listeners == LISTENERS
                    hub.stop()
    finally:
        gc.enable()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    everything = [float(number) for number in range(MESSAGES)]
    assert all(task.result() == everything for task in listeners)
    assert len(opened) <= REPLAYS_MAX + 1
    assert freed == len(opened)

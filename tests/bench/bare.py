"""What the parts that we build on do when they do nothing else: the baselines of goals.

`python -m tests.bench.bare PORT` serves a bare route.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import httpx
import uvicorn
from confluent_kafka import Producer
from psycopg import AsyncConnection
from starlette.types import Receive, Scope, Send

from events.topics import PROGRESS
from infra.runtime import kafka
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from tests.support.engine import free_ports
from tests.support.platform import ROOT

BARE = replace(PROGRESS, name="bare", partitions=1)
"""A topic that nothing of ours reads."""
WARM = 300
BODY = b"x" * 1000


async def produced(settings: Settings, values: Sequence[bytes]) -> float:
    """Return the events a second that librdkafka's own producer puts on the log with acks=all, encoded before."""
    await kafka.ensure_topics(settings, [BARE])
    topic = kafka.topic_name(settings, BARE)
    options = {"enable.idempotence": True, "linger.ms": 5, "batch.size": 1 << 20, "queue.buffering.max.messages": 2 * len(values)}
    producer = Producer({**kafka.librdkafka(settings), **options})
    producer.list_topics(topic, 10)
    begun = perf_counter()
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(60) == 0
    return len(values) / (perf_counter() - begun)


async def round_trips(settings: Settings, count: int) -> list[float]:
    """Return how long a record takes that is produced with acks=all and read back, milliseconds, sorted; one after the other."""
    await kafka.ensure_topics(settings, [BARE])
    producer, consumer = await kafka.open_producer(settings), LogConsumer(settings, idle_ms=5000)
    await consumer.assign(await consumer.ends([(BARE.name, 0)]))
    waits = []
    for _ in range(WARM + count):
        begun = perf_counter()
        await producer.send_and_wait(kafka.topic_name(settings, BARE), b"x" * 400, partition=0)
        while not await consumer.read(records_max=10, wait_s=10):
            pass
        waits.append(1000 * (perf_counter() - begun))
    await consumer.close()
    await producer.stop()
    return sorted(waits[WARM:])


async def copied(connection: AsyncConnection[Any], values: Collection[bytes]) -> float:
    """Return the events a second that PostgreSQL takes by COPY into a table of two columns, in one transaction."""
    await connection.execute("CREATE TABLE IF NOT EXISTS public.bare (number bigint, value text)")
    await connection.execute("TRUNCATE public.bare")
    begun = perf_counter()
    async with connection.transaction(), connection.cursor() as cursor, cursor.copy("COPY public.bare FROM STDIN") as copy:
        for number, value in enumerate(values):
            await copy.write_row((number, value.decode()))
    return len(values) / (perf_counter() - begun)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Take the body and answer with 202, or 200 for a GET: plain ASGI, without a framework."""
    while (await receive()).get("more_body"):
        pass
    read = scope["method"] == "GET"
    body = BODY if read else b""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if read else 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def bare_route() -> AsyncIterator[int]:
    """Serve a bare route by uvicorn in a process of its own; yield its port."""
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.bare", str(port), cwd=ROOT)
    try:
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            while True:
                try:
                    (await http.get("/")).raise_for_status()
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    uvicorn.run(answer, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="error", lifespan="off", access_log=False)

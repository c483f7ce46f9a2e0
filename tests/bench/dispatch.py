"""How fast the dispatcher answers one worker, and how many requests it decides while hundreds wait."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from time import perf_counter

from events.codec import encode
from events.envelope import Envelope, Event
from events.jobs import ClaimRequested, JobSubmitted
from events.kinds import AnalyseSpec, Capabilities, Requirements, Source
from events.topics import JOBS, partition_for
from infra.runtime import kafka
from infra.runtime.appender import appender_of
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from producers.appender import Appender
from tests.bench.bare import produced, round_trips
from tests.bench.figures import Figure
from tests.support.platform import Platform
from workers.transport import LogTransport

RUNS = 3
CLAIMS = 200
WARM = 1_000
"""Claims before anything is measured: so many it takes until the broker, which runs in a virtual machine, is at its pace."""
JOBS_AT_ONCE = 20_000
TIMES = 10
"""So often librdkafka produces them: once would take 30 ms, in which nothing can be measured."""
WAITING = 500
QUEUED = 10_000
POOL = "default"
SPEC = AnalyseSpec(source=Source(object_key="sources/x", size_bytes=1))


def submitted() -> Envelope[Event]:
    """A job that any worker may take."""
    id_ = new_id()
    event = JobSubmitted(job_id=id_, video_id=id_, pool=POOL, spec=SPEC, requirements=Requirements(kind="analyse"))
    return Envelope(id_, "bench", POOL, SystemClock().now(), event, id_)


def _waiting_claim() -> Envelope[Event]:
    """A claim that no job of ours fits."""
    id_, now = new_id(), SystemClock().now()
    event = ClaimRequested(
        worker_id=id_, pool=POOL, capabilities=Capabilities(kinds=("verify",)), deadline=now + timedelta(minutes=5)
    )
    return Envelope(id_, "bench", POOL, now, event, id_)


async def dispatch(settings: Settings) -> Sequence[Figure]:
    """Claim jobs one at a time; then submit many at once while 500 claims wait in vain."""
    async with Platform(settings, workers=0, lease_s=600) as platform:
        appender = appender_of(settings, timeout_s=60)
        await appender.start()
        transport = LogTransport(
            "bench",
            POOL,
            process_id="p",
            append=appender.append,
            open_consumer=lambda: kafka.open_consumer(settings, idle_ms=5000),
            context=lambda correlation: system_context("bench", correlation),
            topic_prefix=settings.topic_prefix,
        )
        await transport.start()
        await appender.append([submitted() for _ in range(WARM + CLAIMS * RUNS)])
        await _claim_some(transport, WARM)
        before = await round_trips(settings, CLAIMS * RUNS)
        p50, p99 = await _claim_times(transport)
        await appender.append([submitted() for _ in range(QUEUED + CLAIMS * (RUNS + 1))])
        await _claim_some(transport, CLAIMS)  # the first one waits until all of them are queued
        crowded, _ = await _claim_times(transport)
        await transport.stop()
        await appender.append([_waiting_claim() for _ in range(WAITING)])
        rates, appended = [], []
        values = [encode(submitted()) for _ in range(JOBS_AT_ONCE)] * TIMES
        for _ in range(RUNS):
            rates.append(await _decide_many(platform, appender))
            appended.append(await produced(settings, values))
        await appender.stop()
    base50, base99 = ([before[int(len(before) * share)]] * RUNS for share in (0.5, 0.99))
    return [
        Figure("claim -> fact read back, p50, of a bare record", "ms", p50, 18, at_least=False, baseline=base50),
        Figure("claim -> fact read back, p99, of a bare record", "ms", p99, 20, at_least=False, baseline=base99),
        Figure(f"claim with {QUEUED:,} jobs queued, p50", "ms", crowded, 1.2, at_least=False, baseline=p50),
        Figure(f"decisions, {WAITING} claims waiting, of librdkafka's producer", "requests/s", rates, 0.0055, baseline=appended),
    ]


async def _claim_times(transport: LogTransport) -> tuple[list[float], list[float]]:
    """Return the median and the p99 of several runs, milliseconds."""
    p50, p99 = [], []
    for _ in range(RUNS):
        waits = sorted(await _claim_some(transport, CLAIMS))
        p50.append(waits[len(waits) // 2])
        p99.append(waits[int(len(waits) * 0.99)])
    return p50, p99


async def _claim_some(transport: LogTransport, count: int) -> list[float]:
    """Return how long each claim took, milliseconds."""
    waits = []
    for _ in range(count):
        begun = perf_counter()
        assert await transport.claim(Capabilities(kinds=("analyse",)), wait_s=10) is not None
        waits.append(1000 * (perf_counter() - begun))
    return waits


async def _decide_many(platform: Platform, appender: Appender) -> float:
    """Return requests decided a second, from the first that is appended to the last fact that is read."""
    settings = platform.settings
    partition = JOBS.name, partition_for(POOL, JOBS.partitions)
    source = LogConsumer(settings, idle_ms=20)
    await source.assign(await source.ends([partition]))
    events = [submitted() for _ in range(JOBS_AT_ONCE)]
    begun, facts = perf_counter(), 0
    appending = asyncio.gather(*(appender.append(events[at : at + 1000]) for at in range(0, JOBS_AT_ONCE, 1000)))
    async with asyncio.timeout(120):
        while facts < JOBS_AT_ONCE:
            facts += sum(map(len, (await source.read(records_max=10_000, wait_s=0.2)).values()))
    rate = JOBS_AT_ONCE / (perf_counter() - begun)
    await appending
    await source.close()
    return rate

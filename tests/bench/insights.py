"""How fast reports become insights, and how fast those are read, whatever is stored behind them."""

import asyncio
import random
from collections.abc import Sequence
from time import perf_counter, process_time
from typing import Any

import httpx

from api.telemetry.insights import INSIGHTS
from events.topics import TELEMETRY
from infra.runtime import kafka, memory, postgres
from infra.runtime.appender import appender_of
from infra.runtime.clock import new_id
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from processors.agents.feed import GATHERED_RECORDS_MAX
from producers.reports import Report, records_of, second_of
from projections.folding.bulk import BulkRunner, fold_until
from projections.folding.log import LogReader, decoded
from projections.folding.runner import Batch, Slice, install, start_rebuild
from projections.telemetry import projection as telemetry
from tests.bench.bare import bare_route, copied
from tests.bench.figures import Figure
from tests.bench.telemetry import load
from tests.support.folding import gather
from tests.support.telemetry_server import TelemetryServer

EVENTS = 400_000
RUNS = 3
SECONDS = 5.0
FEW, MANY = 10_000, 1_000_000
BATCH_RECORDS = 20_000
ANEW = 10
NOON_S = 1_772_000_000
DAY_S = 86_400
MAKERS = {"Nvidia": "nvenc", "Intel": "qsv", "AMD": "vaapi", "Apple": "videotoolbox", "CPU": "software"}
CODECS = ("av1", "hevc", "h264")
RESOLUTIONS = ("2160p", "1440p", "1080p", "720p", "480p")
REASONS = ("cancelled", "transcode_failed", "finalize_failed")


def reports(count: int, rng: random.Random) -> list[Report]:
    """Return reports as real clients send them: every job when it starts and when it has ended, one in 20 failed."""
    made = []
    for _ in range(count // 2):
        maker, codec = rng.choice(list(MAKERS)), rng.choice(CODECS)
        size = rng.randrange(10**8, 10**10)
        known: dict[str, Any] = {
            "app_version": rng.choice(("0.9.1", "1.0.0", "1.1.0")),
            "hardware_model": maker,
            "encoder": f"{codec}_{MAKERS[maker]}",
            "video_codec": codec,
            "resolution": rng.choice(RESOLUTIONS),
            "input_size_bytes": size,
        }
        made.append(Report(event_type="job_started", **known))
        if rng.random() < 0.05:
            ended: dict[str, Any] = {"status": "failure", "failure_reason": rng.choice(REASONS)}
        else:
            output = int(size * rng.uniform(0.2, 0.9))
            ended = {"status": "success", "speed_factor": rng.lognormvariate(1, 0.5), "output_size_bytes": output}
        made.append(Report(event_type="job_finished", duration_ms=rng.randrange(10**7), **known, **ended))
    return made


async def fill_telemetry(settings: Settings, count: int) -> None:
    """Put reports on a fresh log, spread over a few days; then let the collector look as rarely as in our processes."""
    await kafka.ensure_topics(settings, [TELEMETRY])
    appender = appender_of(settings, timeout_s=60, pending_max=2 * count)
    await appender.start()
    made = reports(count, random.Random(1))
    for start in range(0, count, 5_000):
        day = second_of(NOON_S + DAY_S * (5 * start // count))
        await appender.offer(TELEMETRY, records_of(made[start : start + 5_000], day, new_id))
    await appender.stop()
    memory.collect_rarely()


async def telemetry_fold(settings: Settings) -> Sequence[Figure]:
    """Fold reports into PostgreSQL, positions included, every id remembered: as they come, and all of history again."""
    await fill_telemetry(settings, EVENTS)
    source = LogConsumer(settings, idle_ms=50)
    reader = LogReader(source, telemetry.PROJECTION)
    live, wall, core, copies = [], [], [], []
    values = [value for _, value, _ in records_of(reports(EVENTS // 4, random.Random(1)), second_of(NOON_S), new_id)]
    async with postgres.connected(settings) as connection:
        await install(connection, telemetry.PROJECTION)
        for _ in range(RUNS):
            runner = await start_rebuild(connection, telemetry.PROJECTION)
            await reader.seek(await runner.positions(connection))
            folded, begun = 0, perf_counter()
            while folded < EVENTS:
                batch, _ = await reader.read(records_max=GATHERED_RECORDS_MAX, wait_s=0.5)
                if batch is not None:
                    reader.begin(records_max=GATHERED_RECORDS_MAX, wait_s=0.5)  # as the feed does
                    await runner.apply(connection, batch)
                    folded += batch.count
            live.append(EVENTS / (perf_counter() - begun))
            runner = await start_rebuild(connection, telemetry.PROJECTION)
            await reader.seek(await runner.positions(connection))
            bulk, begun, cpu = BulkRunner(runner, empty=True), perf_counter(), process_time()
            await fold_until(reader, bulk, connection, await reader.ends())
            await bulk.flush(connection)
            wall.append(EVENTS / (perf_counter() - begun))
            core.append(EVENTS / (process_time() - cpu))
            copies.append(await copied(connection, values))
    await source.close()
    return [
        Figure("telemetry into PostgreSQL with position, of a COPY of it", "events/s", live, 0.25, baseline=copies),
        Figure("telemetry, cold rebuild, of a COPY of it", "events/s", wall, 0.2, baseline=copies),
        Figure("telemetry, cold rebuild per core of its process", "events/s", core),
    ]


async def insights_reads(settings: Settings) -> Sequence[Figure]:
    """Read the insights over HTTP with few events stored, and with many."""
    rates: list[float] = []
    bare: list[float] = []
    spans: list[float] = []
    p99s: list[float] = []
    few: list[float] = []
    async with TelemetryServer(settings) as server, httpx.AsyncClient(base_url=server.url) as http, bare_route() as port:
        stored = 0
        for wanted in (FEW, MANY):
            await store(settings, stored, wanted)
            stored = wanted
            while (await http.get(INSIGHTS)).json().get("coverage", {}).get("total_jobs") != wanted:
                await asyncio.sleep(0.1)
            await load(server.port, 1, "insights")
            for _ in range(RUNS):
                found = await load(server.port, SECONDS, "insights")
                (few if wanted == FEW else spans).append(found["p50_ms"])
                rates.append(found["rate"])
                bare.append((await load(port, SECONDS, "compared"))["rate"])
                p99s.append(found["p99_ms"])
        anew = [await asked_anew(http, number) for number in range(ANEW)]
        kept = [await load(server.port, SECONDS, "compared") for _ in range(RUNS)]
    return [
        Figure("insights, reads, of a bare route of uvicorn's", "requests/s", rates, 1, baseline=bare),
        Figure("insights, reads, p99", "ms", p99s),
        Figure("insights, p50 with 1,000,000 events stored against 10,000", "ms", spans, 1.2, at_least=False, baseline=few),
        Figure("insights v2 with 1,000,000 events stored, reads", "requests/s", [found["rate"] for found in kept]),
        Figure("insights v2 with 1,000,000 events stored, p50", "ms", [found["p50_ms"] for found in kept]),
        Figure("insights v2 with 1,000,000 events stored, p99", "ms", [found["p99_ms"] for found in kept]),
        Figure("insights v2 with 1,000,000 events stored, when nobody asked before", "ms", anew),
    ]


async def asked_anew(http: httpx.AsyncClient, number: int) -> float:
    """Return how long an answer takes that is not kept, ms."""
    begun = perf_counter()
    answer = await http.get("/api/v2/insights", params={"offset": number})
    assert answer.status_code == 200 and answer.json()["total"] == len(MAKERS) * len(CODECS) * len(RESOLUTIONS)
    return 1000 * (perf_counter() - begun)


async def store(settings: Settings, start: int, end: int) -> None:
    """Fold events from number `start` to `end` as if they had come from the log."""
    rng = random.Random(end)
    async with postgres.connected(settings) as connection:
        runner = await install(connection, telemetry.PROJECTION)
        for first in range(start, end, BATCH_RECORDS):
            count = min(BATCH_RECORDS, end - first)
            lines = records_of(reports(count, rng), second_of(NOON_S + first), new_id)
            records, dead = decoded(TELEMETRY.name, 0, [(first + n, value) for n, (_, value, _) in enumerate(lines)])
            assert not dead
            part = Slice(TELEMETRY.name, 0, first, first + count, count, None)
            await runner.apply(connection, Batch((part,), records, gather(telemetry.PROJECTION, records)))

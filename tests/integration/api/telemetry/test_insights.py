"""Insights on the real engine: the SQL reads what the folds say, whatever came twice; the app serves it within a second."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
from psycopg import AsyncConnection

from api.telemetry.insights import INSIGHTS
from api.telemetry.reading import Limits, StoredReadings
from events.envelope import Event, Recorded
from infra.commands.telemetry import Imported, Table, import_from
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.settings import Settings
from projections.folding.log import LogReader
from projections.folding.runner import Batch, Runner, Slice, install, start_rebuild
from projections.telemetry import insights
from projections.telemetry import projection as telemetry
from projections.telemetry.insights import Caps, Label, Selection
from tests.support.folding import gather
from tests.support.log import read_topic
from tests.support.shelf import FINISHED, LABELS, Shelf, some_log
from tests.support.telemetry_server import PATIENCE_S, PatientServer, request, talk
from tests.support.waiting import eventually


def in_batches(log: Sequence[Recorded[Event]], rng: random.Random) -> list[Batch]:
    """Cut a log into batches of any size, partitions mixed in any way."""
    left: dict[tuple[str, int], list[Recorded[Event]]] = {}
    for record in log:
        left.setdefault((record.topic, record.partition), []).append(record)
    batches = []
    while left:
        chosen = rng.sample(sorted(left), rng.randint(1, len(left)))
        slices, records = [], []
        for partition in chosen:
            taken = left[partition][: rng.randint(1, 40)]
            del left[partition][: len(taken)]
            if not left[partition]:
                del left[partition]
            slices.append(Slice(*partition, taken[0].offset, taken[-1].offset + 1, len(taken), None))
            records += taken
        batches.append(Batch(tuple(slices), records, gather(telemetry.PROJECTION, records)))
    return batches


async def folded_by(runner: Runner, connection: AsyncConnection[Any], batches: Sequence[Batch]) -> dict[str, str]:
    """Fold the batches; return the digests of the tables."""
    for batch in batches:
        await runner.apply(connection, batch)
    return await runner.digest(connection)


async def test_any_split_with_repetitions_gives_the_same_bytes(settings: Settings) -> None:
    rng = random.Random(7)
    log = some_log(rng, 600)
    async with postgres.connected(settings) as connection:
        live = await install(connection, telemetry.PROJECTION)
        digests = await folded_by(live, connection, in_batches(log, rng))
        document = (await insights.insights(connection, Caps(1000, 1000))).document
        for _ in range(3):
            again = await start_rebuild(connection, telemetry.PROJECTION)
            assert await folded_by(again, connection, in_batches(log, rng)) == digests
    assert document == Shelf.of(*log).insights().document


async def test_the_queries_read_what_a_fold_in_memory_says(settings: Settings) -> None:
    rng = random.Random(8)
    log = some_log(rng, 600)
    pool = await postgres.open_pool(settings)
    async with pool.connection() as connection:
        runner = await install(connection, telemetry.PROJECTION)
        await folded_by(runner, connection, in_batches(log, rng))
    selections = [
        Selection(),
        Selection(hardware="Intel"),
        Selection(hardware="other"),
        Selection(encoder="av1_qsv", codec="av1", resolution="720p", app_version="1.1.0"),
        Selection(since=date(2026, 3, 2), until=date(2026, 3, 3)),
        Selection(encoder="nobody"),
        Selection(encoder="other", app_version="other"),
    ]
    grouped: list[tuple[Label, ...]] = [(), ("day",), ("app_version",), ("encoder",), LABELS, LABELS[2:]]
    for hardware_max, words_max in ((1000, 1000), (3, 1000), (3, 2)):
        shelf = Shelf.of(*log, hardware_max=hardware_max, words_max=words_max)
        readings = StoredReadings(pool, Limits(Caps(hardware_max, words_max), 1, 1))
        look = await readings.look(None)
        assert look is not None
        assert orjson.loads(look[0].document) == orjson.loads(shelf.insights().document)
        assert look[0] == shelf.insights()
        assert await readings.look(look[1]) is None
        async with readings.open() as (reader, position):
            assert position == look[1]
            for selection in selections:
                assert await reader.reasons(selection) == await shelf.reasons(selection)
                for by in grouped:
                    for finished_min in (0, 4):
                        found = await reader.groups(selection, by, finished_min)
                        assert found == await shelf.groups(selection, by, finished_min), (selection, by)
    await pool.close()


@asynccontextmanager
async def folding(settings: Settings) -> AsyncIterator[None]:
    """Fold telemetry as it comes, as the processors do."""
    source = LogConsumer(settings, idle_ms=20)
    reader = LogReader(source, telemetry.PROJECTION)

    async def fold() -> None:
        async with postgres.connected(settings) as connection:
            runner = await install(connection, telemetry.PROJECTION)
            await reader.seek(await runner.positions(connection))
            while True:
                batch, _ = await reader.read(records_max=1000, wait_s=0.1)
                if batch is not None:
                    await runner.apply(connection, batch)

    task = asyncio.create_task(fold())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()


async def until(http: httpx.AsyncClient, wanted: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Ask for the insights until they are as wanted."""
    return await eventually(lambda: http.get(INSIGHTS), wanted)


async def test_what_nodes_report_is_in_the_insights_and_counts_once(settings: Settings) -> None:
    async with (
        PatientServer(settings, telemetry_floor=1, telemetry_samples_min=1) as server,
        folding(server.settings),
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http,
    ):
        answer = await until(http, lambda answer: answer.status_code == 200)
        assert answer.json()["leaderboard"] == []
        report = {**FINISHED, "event_id": new_id(), "speed_factor": 2.5, "input_size_bytes": 100, "output_size_bytes": 60}
        for _ in range(3):
            assert (await http.post("/v1/event", json=report)).status_code == 202
        assert (await http.post("/v1/event", json={**FINISHED, "event_type": "job_started"})).status_code == 202
        answer = await until(http, lambda answer: answer.json()["coverage"]["total_jobs"] == 2)
        line = {"hardware": "Intel", "encoder": "av1_qsv", "codec": "av1", "res": "1080p"}
        assert answer.json() == {
            "schema": 1,
            "coverage": {"total_jobs": 2, "unique_hardware": 1},
            "leaderboard": [{**line, "speed": 2.5, "reduction": 0.4, "samples": 1}],
            "stability": [],
        }
        assert answer.headers["access-control-allow-origin"] == "*"
        known = {"If-None-Match": answer.headers["etag"]}
        again = await http.get(INSIGHTS, headers=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
        head = await http.head(INSIGHTS)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.content))
        with_body = await http.request("GET", INSIGHTS, content=b"a body that nobody wants")
        assert with_body.content == answer.content
        second = (await http.get("/api/v2/insights")).json()
        assert second["items"][0]["jobs"] == second["all"]["jobs"] == 1
        metrics = (await http.get("/metrics")).text
        assert f'app="telemetry",method="GET",route="{INSIGHTS}",status="304"' in metrics
    assert "Traceback" not in server.log()


async def test_reading_is_limited_as_reporting_is(settings: Settings) -> None:
    limited = {"telemetry_requests_per_minute": 1.0, "telemetry_burst": 3}
    async with PatientServer(settings, **limited) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        paths = (INSIGHTS, "/api/v2/insights", INSIGHTS, INSIGHTS, "/api/v2/insights")
        answers = [(await http.get(path)).status_code for path in paths]
        assert answers[3:] == [429, 429] and 429 not in answers[:3]
        assert (await http.get("/health")).status_code == 200


async def test_reports_are_taken_while_the_database_is_away(settings: Settings) -> None:
    nowhere = psycopg.conninfo.make_conninfo(settings.postgres_url.get_secret_value(), port=1)
    away = settings.model_copy(update={"postgres_url": type(settings.postgres_url)(nowhere)})
    async with PatientServer(away) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        assert (await http.post("/v1/event", json=FINISHED)).status_code == 202
        for path in (INSIGHTS, "/api/v2/insights"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["retry-after"]) >= 1


async def test_history_that_is_imported_twice_counts_once(settings: Settings, tmp_path: Path) -> None:
    columns = ("id", "created_at", "app_version", "event_type", "hardware_model", "encoder", "video_codec", "resolution")
    with sqlite3.connect(tmp_path / "alembic.db") as database:
        database.execute(f"CREATE TABLE raw_events ({', '.join(columns)})")
        rows = [(f"id {n}", "2025-05-05 05:05:05", "1", "job_finished", "AMD", "av1_amf", "av1", "720p") for n in range(5000)]
        database.executemany("INSERT INTO raw_events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.close()
    source, kept = Table(tmp_path / "alembic.db"), tmp_path / "kept.json"
    done = Imported()
    await import_from(source, done, kept, settings)
    assert (done.rows, done.accepted, Imported.load(kept)) == (5000, 5000, done)
    await import_from(source, Imported.load(kept), kept, settings)
    assert len(await read_topic(settings, "telemetry")) == 5000
    await import_from(source, Imported(), tmp_path / "lost.json", settings)  # as if nobody knew how far it had come
    log = await read_topic(settings, "telemetry")
    assert len(log) == 10_000
    async with postgres.connected(settings) as connection:
        runner = await install(connection, telemetry.PROJECTION)
        await folded_by(runner, connection, in_batches(log, random.Random(1)))
        found = orjson.loads((await insights.insights(connection, Caps(1000, 1000))).document)
        (day,) = await insights.groups(connection, Selection(), ("day",), Caps(1000, 1000))
    assert found["coverage"] == {"total_jobs": 5000, "unique_hardware": 1}
    assert (day.day, day.finished) == ("2025-05-05", 5000)


async def test_however_the_insights_are_asked_for_they_are_answered_in_order(settings: Settings) -> None:
    read = b"GET " + INSIGHTS.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    good = request(FINISHED)
    cases: list[tuple[tuple[bytes, ...], list[int]]] = [
        ((read,), [200]),
        ((read, read), [200, 200]),
        ((read * 5,), [200] * 5),
        ((good + read + good,), [202, 200, 202]),
        ((read + good + read,), [200, 202, 200]),
        ((read[:20], read[20:]), [200]),
        ((read.replace(b"HTTP/1.1", b"HTTP/1.0"),), [200]),
        ((read.replace(b"Host: x", b"Host: x\r\nConnection: close") + read,), [200]),
        ((read.replace(b"Host: x", b"Host: x\r\nContent-Length: 2") + b"{}" + read,), [200, 200]),
        ((read.replace(b"GET", b"HEAD") + read.replace(b"GET", b"DELETE") + read,), [200, 405, 200]),
        ((read.replace(b"insights", b"insights?x=1"), read), [200, 200]),
        ((read.replace(b"Host: x", b"Host: x\r\nIf-None-Match: *") + read,), [304, 200]),
    ]
    async with (
        PatientServer(settings) as server,
        folding(server.settings),
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http,
    ):
        await until(http, lambda answer: answer.status_code == 200)
        for pieces, statuses in cases:
            assert await talk(server.port, *pieces, answers=len(statuses)) == statuses, pieces
    assert "Traceback" not in server.log()

"""Ingest on the real Kafka, as its own process: 202 means that the event is on the log, whatever dies; and nobody is named."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import zstandard
from psycopg import sql

from events.envelope import Event, Recorded
from events.telemetry import TelemetryReported
from infra.local import supervision
from infra.runtime import kafka
from infra.runtime.clock import SystemClock, new_id
from infra.runtime.settings import Settings
from infra.runtime.telemetry import telemetry_client
from producers.reports import Report
from producers.telemetry import TelemetryClient
from tests.support.log import read_topic
from tests.support.platform import ROOT, Platform
from tests.support.telemetry import FINISHED
from tests.support.telemetry_server import PATIENCE_S, PatientServer, TelemetryServer, request, talk
from tests.support.waiting import eventually
from tests.support.work import ffmpeg_path

BOUND_S = 30.0
"""What a server ends by itself after some seconds has ended by then; what it does not end never ends."""
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


async def on_log(server: TelemetryServer) -> Counter[str]:
    """Return how often each id is on the log."""
    return Counter(recorded.envelope.id for recorded in await read_topic(server.settings, "telemetry"))


async def test_a_202_is_on_the_log_with_what_was_sent(settings: Settings) -> None:
    async with PatientServer(settings) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        event_id = new_id()
        answer = await http.post("/v1/event", json=FINISHED | {"event_id": event_id})
        assert (answer.status_code, answer.content) == (202, b"")
        (recorded,) = await read_topic(server.settings, "telemetry")
        assert recorded.envelope.id == event_id
        assert recorded.envelope.data == TelemetryReported(**FINISHED)
        assert (await http.get("/health")).text == "OK"
        metrics = (await http.get("/metrics")).text
        assert 'kinolog_http_requests_total{app="telemetry",method="POST",route="/v1/event",status="202"} 1.0' in metrics
        assert 'kinolog_telemetry_events_total{result="accepted"} 1.0' in metrics


async def test_batches_and_single_events_at_once_are_all_there(settings: Settings) -> None:
    async with PatientServer(settings) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        singles = [new_id() for _ in range(500)]
        batches = [[new_id() for _ in range(4000)] for _ in range(4)]

        async def send_all(ids: list[str]) -> None:
            for event_id in ids:
                assert (await http.post("/v1/event", json=FINISHED | {"event_id": event_id})).status_code == 202

        async def send_batch(ids: list[str]) -> None:
            body = b"\n".join(json.dumps(FINISHED | {"event_id": event_id}).encode() for event_id in ids)
            headers = LINES | {"Content-Encoding": "zstd"}
            answer = await http.post("/v1/events", content=zstandard.compress(body), headers=headers)
            assert answer.json() == {"lines": 4000, "accepted": 4000, "refused": 0, "verdicts": []}

        parts = [singles[start::10] for start in range(10)]
        await asyncio.gather(*map(send_all, parts), *map(send_batch, batches))
        expected = Counter(singles + [event_id for ids in batches for event_id in ids])
        assert await on_log(server) == expected


async def test_however_requests_come_over_a_connection_they_are_answered_in_order(settings: Settings) -> None:
    good, bad, long = request(FINISHED), request({}), request(b" " * 20_000)
    chunked = request(b"%x\r\n%b\r\n0\r\n\r\n" % (2, b"{}"), b"Transfer-Encoding: chunked", length=False)
    cases: list[tuple[tuple[bytes, ...], list[int], int]] = [
        ((good,), [202], 1),
        ((good, good, good), [202, 202, 202], 3),
        ((good + good + good,), [202, 202, 202], 3),
        ((good + bad + good + long + good,), [202, 422, 202, 413, 202], 3),
        (tuple(good[start : start + 40] for start in range(0, len(good), 40)), [202], 1),
        ((good[:-1], good[-1:] + good[:50], good[50:]), [202, 202], 2),
        ((chunked + good,), [422, 202], 1),
        ((request(FINISHED, version=b"1.0") + good,), [202], 1),
        ((request(FINISHED, b"Connection: close") + good,), [202], 1),
        ((request(FINISHED, b"Expect: 100-continue"),), [100, 202], 1),
        ((good + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + good,), [202, 200, 202], 2),
        ((good + b"nonsense\r\n\r\n",), [202, 400], 1),
    ]
    async with PatientServer(settings) as server:
        for pieces, statuses, _ in cases:
            found = await talk(server.port, *pieces, answers=len(statuses))
            assert found == statuses or (pieces == cases[-1][0] and found == [400]), pieces
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(good)
        writer.close()  # nobody waits for the answer
        await eventually(lambda: on_log(server), lambda found: found.total() > sum(count for *_, count in cases))
    assert "Traceback" not in server.log()


# --- what dies --------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that send single events, each again with its id until it is taken."""

    server: TelemetryServer
    accepted: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _stop: bool = False

    async def client(self) -> None:
        """Send until stopped; an event that was begun is sent until it is taken."""
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE_S, limits=limits) as http:
            while not self._stop:
                event_id = new_id()
                await eventually(partial(self._send, http, event_id))
                self.accepted.append(event_id)

    async def _send(self, http: httpx.AsyncClient, event_id: str) -> bool:
        began = monotonic()
        try:
            answer = await http.post("/v1/event", json=FINISHED | {"event_id": event_id})
        except httpx.TransportError:
            return False
        self.slowest_s = max(self.slowest_s, monotonic() - began)
        self.statuses[answer.status_code] += 1
        return answer.status_code == 202

    async def run_through(self, fault: Callable[[], Awaitable[None]]) -> None:
        """Run 16 clients; the fault comes when they are at it, and they go on after it."""
        tasks = [asyncio.create_task(self.client()) for _ in range(16)]
        await self._more(200)
        await fault()
        await self._more(1000)
        self._stop = True
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)

    async def _more(self, count: int) -> None:
        """Wait until so many more events are taken."""
        enough = len(self.accepted) + count
        await eventually(lambda: len(self.accepted), lambda accepted: accepted >= enough, timeout_s=2 * PATIENCE_S)


async def kill_broker(local_engine: Settings) -> None:
    """Kill Kafka with SIGKILL; its supervisor starts it again."""
    (row,) = [row for row in supervision.status(local_engine) if row["name"] == "kafka"]
    os.kill(row["pid"], signal.SIGKILL)


@pytest.mark.timeout(420)
async def test_a_killed_broker_costs_no_event_and_doubles_none(settings: Settings, local_engine: Settings) -> None:
    async with TelemetryServer(settings) as server:
        load = Load(server)
        await load.run_through(lambda: kill_broker(local_engine))
        found = await on_log(server)
    assert len(load.accepted) > 1000
    assert set(load.statuses) <= {202, 503}
    assert load.slowest_s < BOUND_S, "503 comes in bounded time"
    assert Counter(load.accepted) == found, "every 202 is on the log exactly once, and nothing else is"


@pytest.mark.timeout(420)
async def test_a_killed_ingest_process_costs_no_event(settings: Settings) -> None:
    """A client whose answer got lost repeats its event: the log may have that one twice, under one id."""
    async with TelemetryServer(settings) as server:
        load = Load(server)

        async def kill() -> None:
            await server.kill()
            await server.start()

        await load.run_through(kill)
        found = await on_log(server)
    assert set(load.accepted) == set(found)
    assert sum(found.values()) - len(found) <= 16, "at most one for each client"


async def test_without_a_broker_answers_are_503_in_bounded_time(settings: Settings, local_engine: Settings) -> None:
    (row,) = [row for row in supervision.status(local_engine) if row["name"] == "kafka"]
    async with TelemetryServer(settings) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        await eventually(lambda: http.post("/v1/event", json=FINISHED), lambda answer: answer.status_code == 202)
        os.kill(row["pid"], signal.SIGSTOP)
        try:
            body = b"\n".join([json.dumps(FINISHED).encode()] * 5000)
            for _ in range(3):
                began = monotonic()
                answers = await asyncio.gather(
                    *(http.post("/v1/event", json=FINISHED) for _ in range(20)),
                    http.post("/v1/events", content=body, headers=LINES),
                )
                assert monotonic() - began < BOUND_S
                assert {answer.status_code for answer in answers} == {503}
                assert all(answer.headers["retry-after"] for answer in answers)
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
            assert (await http.post("/v1/event", json={})).status_code == 422, "what is wrong is still said"
        finally:
            os.kill(row["pid"], signal.SIGCONT)
        await eventually(lambda: http.post("/v1/event", json=FINISHED), lambda answer: answer.status_code == 202)
        await eventually(lambda: http.get("/ready"), lambda answer: answer.status_code == 200)


async def sent(server: TelemetryServer, spool: Path) -> None:
    """Send what an earlier client has left."""
    # a request that fails is repeated after a fifth of a second, 1, 3, 10, 30
    async with telemetry_client(server.url, spool):
        await eventually(lambda: list(spool.glob("*.ndjson")), lambda files: not files, timeout_s=2 * PATIENCE_S)


async def test_a_nodes_reports_arrive_once_although_the_server_dies(settings: Settings, tmp_path: Path) -> None:
    async with TelemetryServer(settings) as server, httpx.AsyncClient(base_url=server.url, timeout=4) as http:
        client = TelemetryClient(http, tmp_path / "spool", SystemClock(), new_id, random.Random(1))
        await client.start()
        for number in range(300):
            client.report(Report(**FINISHED | {"duration_ms": number}))  # type: ignore[arg-type]
            if number == 100:
                await eventually(lambda: on_log(server))
                await server.kill()
            if number == 200:
                await server.start()
        await client.stop(timeout_s=10)
        await sent(server, tmp_path / "spool")
        events = {recorded.envelope.id: recorded.envelope.data for recorded in await read_topic(server.settings, "telemetry")}
    assert sorted(event.duration_ms for event in events.values()) == list(range(300))  # type: ignore[attr-defined]


async def test_the_client_of_the_readme_reports(settings: Settings, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "telemetry.md").read_text(), re.DOTALL)
    assert "http://localhost:3000" in code
    async with TelemetryServer(settings) as server:
        (tmp_path / "node.py").write_text(code.replace("http://localhost:3000", server.url))
        node = await asyncio.create_subprocess_exec(sys.executable, "node.py", cwd=tmp_path)
        assert await node.wait() == 0
        await sent(server, tmp_path / "spool")
        (recorded,) = await read_topic(server.settings, "telemetry")
        assert recorded.envelope.data.encoder == "av1_qsv"  # type: ignore[attr-defined]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four seconds, whose name must not get about."""
    path = tmp_path / "zq7marker.mp4"
    recipe = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, str(path)], check=True)
    return path


async def test_our_workers_report_their_encodes_when_they_know_where(settings: Settings, clip: Path) -> None:
    async with (
        TelemetryServer(settings) as server,
        Platform(settings, telemetry_url=server.url, chunk_s=2.0, segment_s=1.0) as platform,
    ):
        assert (await platform.ended(await platform.upload(clip)))["status"] == "ready"

        async def on_the_log() -> dict[str, Recorded[Event]]:
            return {recorded.envelope.id: recorded for recorded in await read_topic(settings, "telemetry")}

        events = await eventually(on_the_log, lambda events: len(events) >= 4)
    reports = [recorded.envelope.data for recorded in events.values()]  # one whose answer was late is sent twice, under one id
    assert all(isinstance(report, TelemetryReported) for report in reports)
    assert Counter(report.event_type for report in reports) == {"job_started": 2, "job_finished": 2}  # type: ignore[attr-defined]
    for report in reports:
        assert isinstance(report, TelemetryReported)
        assert (report.encoder, report.video_codec, report.resolution) == ("libx264", "h264", "180p")
        if report.event_type == "job_finished":
            assert report.status == "success"
            assert report.duration_ms and report.speed_factor and report.input_size_bytes and report.output_size_bytes
    assert MARKER not in repr(events), "nothing of the video"


# --- who is slow ------------------------------------------------------------------------------------------------------


async def test_slow_clients_are_answered_and_let_go(settings: Settings) -> None:
    """A head that trickles in, a body that does, a second request that does: each ends in time, and others are served."""
    begun = b"POST /v1/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    answered = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"

    connected: list[bytes] = []

    async def trickle(start: bytes) -> tuple[float, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        began = monotonic()
        writer.write(start)
        connected.append(start)
        received = b""
        with contextlib.suppress(ConnectionError):
            while monotonic() - began < PATIENCE_S:
                with contextlib.suppress(TimeoutError):
                    part = await asyncio.wait_for(reader.read(1000), 0.5)
                    if not part:
                        break
                    received += part
                writer.write(b"X")
        writer.close()
        return monotonic() - began, received

    async with PatientServer(settings) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        slow = asyncio.gather(trickle(b""), trickle(begun), trickle(begun + b"\r\n"), trickle(answered))
        await eventually(lambda: len(connected) == 4)
        assert (await http.post("/v1/event", json=FINISHED)).status_code == 202
        ended = await slow
        assert all(seconds < BOUND_S for seconds, _ in ended), ended
        assert b"HTTP/1.1 408" in ended[2][1]
        assert (await http.post("/v1/event", json=FINISHED)).status_code == 202


async def test_a_megabyte_is_413_and_a_gigabyte_is_not_read(settings: Settings) -> None:
    async with TelemetryServer(settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
            for _ in range(3):
                assert (await http.post("/v1/event", content=b"x" * 1_000_000, headers=JSON)).status_code == 413
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_head_without_end_is_not_kept(settings: Settings) -> None:
    async with TelemetryServer(settings) as server:
        before = psutil.Process(server.process.pid).memory_info().rss
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/event HTTP/1.1\r\nX-Long: ")
        began = monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 100_000)
                await writer.drain()
            await reader.read()
        assert monotonic() - began < BOUND_S
        assert psutil.Process(server.process.pid).memory_info().rss - before < 20 * 2**20
        writer.close()


# --- who is who -------------------------------------------------------------------------------------------------------

MARKER = "zq7marker"
PRIVATE: list[dict[str, Any]] = [
    {"hardware_model": f"/home/{MARKER}/x"},
    {"failure_reason": f"{MARKER}.mkv: Invalid data"},
    {"encoder": f"{MARKER}@example.com"},
    {"status": f"C:\\{MARKER}"},
    {"resolution": MARKER * 10},
    {"event_type": f"{MARKER}\n"},
    {"video_codec": {MARKER: MARKER}},
    {"duration_ms": MARKER},
    {"event_id": MARKER},
]


async def test_nothing_that_leads_to_a_person_is_kept_anywhere(settings: Settings, local_engine: Settings) -> None:
    address = "203.0.113.77"
    headers = {
        "User-Agent": MARKER,
        "Referer": f"http://{MARKER}/",
        "Cookie": MARKER,
        "X-Forwarded-For": address,
        "X-Request-Id": MARKER,
        "Authorization": f"Bearer {MARKER}",
    }
    changes: dict[str, object] = {"trusted_proxies": ("127.0.0.0/8",), "log_level": "debug"}
    async with PatientServer(settings, **changes) as server:
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE_S) as http:
            for change in PRIVATE:
                assert (await http.post("/v1/event", json=FINISHED | change)).status_code == 422
                line = json.dumps(FINISHED | change).encode()
                assert MARKER not in (await http.post("/v1/events", content=line, headers=LINES)).text
            await http.post("/v1/event", content=f'{{"{MARKER}'.encode(), headers=JSON)
            await http.post(f"/v1/event?{MARKER}", json=FINISHED | {MARKER: MARKER, "hostname": MARKER})
            await http.get(f"/{MARKER}?{MARKER}")
            await http.request(MARKER.upper(), "/v1/event")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{MARKER} \x00 nonsense\r\n\r\n".encode())
        assert b" 400 " in await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        assert sum((await on_log(server)).values()) == 1
    marks = (MARKER.encode(), MARKER.upper().encode(), address.encode(), b"127.0.0.1:")
    logged = server.log_path.read_bytes().replace(b"http://127.0.0.1:", b"").replace(server.settings.kafka_bootstrap.encode(), b"")
    assert [mark for mark in marks if mark in logged] == []
    assert address not in json.dumps(_rows(settings)) and MARKER not in json.dumps(_rows(settings))
    topic = kafka.topic_name(settings, "telemetry")
    files = [file for folder in (local_engine.var_dir / "kafka").glob(f"{topic}-*") for file in folder.iterdir()]
    assert any(file.stat().st_size for file in files)
    assert [file.name for file in files for mark in marks[:3] if mark in file.read_bytes()] == []


def _rows(settings: Settings) -> list[str]:
    """Return every row of every table in this world's database, as text."""
    with psycopg.connect(settings.postgres_url.get_secret_value()) as connection:
        tables = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema$)'")
        names = [sql.Identifier(*table) for table in tables.fetchall()]
        return [text for name in names for (text,) in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(name))]

"""A node's reports arrive, once each, whatever happens to the server, the network, the disk or the node."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from events.kinds import AnalyseSpec, EncodeSpec, Source
from events.media import Failure, Rung
from events.telemetry import TelemetryReported
from infra.runtime.clock import new_id
from infra.runtime.hardware import processor_name
from producers.anonymity import reason_against
from producers.reports import Report, check_report
from producers.telemetry import BATCH_MAX, WAITS_S, Spool, TelemetryClient
from tests.support import footage
from tests.support.telemetry import FINISHED, Log, make
from tests.support.waiting import eventually
from workers import telemetry
from workers.telemetry import Node


@dataclass
class Pauses:
    """A clock whose sleeps are over at once, and remembered."""

    slept: list[float] = field(default_factory=list)
    endless: bool = False

    def now(self) -> datetime:
        """Return noon."""
        return datetime(2026, 3, 1, 12, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        """Remember it; the hundredth never ends."""
        self.slept.append(seconds)
        await (asyncio.Event().wait() if self.endless or len(self.slept) > 100 else asyncio.sleep(0))


class Network(httpx.ASGITransport):
    """Leads to the real app. `faults` are met first, one a request: a status, an error of the network, or none.

    `loses_answers` of requests that arrived: the server took them, the client does not know.
    """

    def __init__(self, log: Log, *faults: int | httpx.HTTPError | None, loses_answers: int = 0, **options: Any) -> None:
        super().__init__(make(log, **options))
        self.faults = list(faults)
        self.loses_answers = loses_answers
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or not."""
        self.requests += 1
        if self.faults and (fault := self.faults.pop(0)) is not None:
            if isinstance(fault, httpx.HTTPError):
                raise fault
            return httpx.Response(fault, headers={"Retry-After": "7"} if fault == 429 else {})
        answer = await super().handle_async_request(request)
        if self.loses_answers:
            self.loses_answers -= 1
            raise httpx.ReadTimeout("no answer")
        return answer


@asynccontextmanager
async def reporting(
    network: Network, directory: Path, clock: Pauses | None = None, **options: Any
) -> AsyncIterator[TelemetryClient]:
    """Yield a started client; stopped at the end."""
    async with httpx.AsyncClient(transport=network, base_url="http://telemetry.example") as http:
        client = TelemetryClient(http, directory, clock or Pauses(), new_id, random.Random(1), **options)
        await client.start()
        try:
            yield client
        finally:
            await client.stop()


def finished(number: int = 2500) -> Report:
    """A report that differs from others."""
    return Report(**FINISHED | {"duration_ms": number})  # type: ignore[arg-type]


def numbers(log: Log) -> list[int]:
    """What arrived, in order."""
    return [envelope.data.duration_ms for envelope in log.events]  # type: ignore[attr-defined]


def left(directory: Path) -> list[dict[str, Any]]:
    """What is on disk, in whole files."""
    return [json.loads(line) for file in sorted(directory.glob("*.ndjson")) for line in file.read_text().splitlines()]


async def arrived(log: Log, count: int, directory: Path) -> None:
    """Wait until so many reports are on the log and none is on disk: who stops before that sends the last ones again."""
    await eventually(lambda: len(log.records) == count and not list(directory.glob("*")))


async def test_reports_arrive_and_nothing_is_left_behind(tmp_path: Path) -> None:
    log = Log()
    async with reporting(Network(log), tmp_path) as client:
        for number in range(50):
            client.report(finished(number))
        await arrived(log, 50, tmp_path)
    assert numbers(log) == list(range(50))
    assert log.events[0].data == TelemetryReported(**FINISHED | {"duration_ms": 0})
    assert left(tmp_path) == []


async def test_a_busy_server_is_asked_again_later_and_later(tmp_path: Path) -> None:
    log, clock = Log(), Pauses()
    faults = (503, httpx.ConnectError("refused"), 500, httpx.ReadTimeout("slow"), 502, 404)
    async with reporting(Network(log, *faults), tmp_path, clock) as client:
        client.report(finished())
        await eventually(lambda: len(log.records) == 1)
    assert clock.slept == [pytest.approx(wait_s, rel=0.21) for wait_s in WAITS_S[: len(faults)]]
    assert [round(wait_s, 1) for wait_s in WAITS_S[:2]] == [0.2, 0.8]


async def test_a_server_that_says_when_is_asked_then(tmp_path: Path) -> None:
    log, clock = Log(), Pauses()
    async with reporting(Network(log, 429), tmp_path, clock) as client:
        client.report(finished())
        await eventually(lambda: len(log.records) == 1)
    assert clock.slept == [7.0]


async def test_waiting_starts_anew_after_every_batch_that_arrived(tmp_path: Path) -> None:
    log, clock = Log(), Pauses()
    lines = [msgspec.json.encode(finished(number)) for number in range(BATCH_MAX + 1)]
    Spool(tmp_path, new_id).keep(lines)
    async with reporting(Network(log, 503, 503, 503, None, 503), tmp_path, clock):
        await eventually(lambda: len(log.records) == len(lines))
    usual_s = (*WAITS_S[:3], WAITS_S[0])
    assert clock.slept == [pytest.approx(seconds, rel=0.21) for seconds in usual_s]


async def test_a_lost_answer_makes_the_same_event_twice_and_not_another_one(tmp_path: Path) -> None:
    log = Log()
    async with reporting(Network(log, loses_answers=2), tmp_path) as client:
        client.report(finished())
        await eventually(lambda: len(log.records) == 3)
    assert len({envelope.id for envelope in log.events}) == 1, "readers drop what comes with the same id"


async def test_what_was_not_sent_survives_the_process(tmp_path: Path) -> None:
    log, clock = Log(), Pauses(endless=True)
    async with reporting(Network(log, *[httpx.ConnectError("refused")] * 100), tmp_path, clock) as client:
        for number in range(3):
            client.report(finished(number))
        await eventually(lambda: len(left(tmp_path)) == 3)
    assert log.records == []
    kept = [line["event_id"] for line in left(tmp_path)]
    async with reporting(Network(log), tmp_path):
        await arrived(log, 3, tmp_path)
    assert numbers(log) == [0, 1, 2]
    assert [envelope.id for envelope in log.events] == kept
    assert left(tmp_path) == []


async def test_stopping_sends_what_was_said_last(tmp_path: Path) -> None:
    log = Log()
    async with reporting(Network(log), tmp_path) as client:
        client.report(finished())
    assert len(log.records) == 1


async def test_stopping_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    class Hangs(Network):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with httpx.AsyncClient(transport=Hangs(Log()), base_url="http://telemetry.example") as http:
        client = TelemetryClient(http, tmp_path, Pauses(), new_id, random.Random(1))
        await client.start()
        client.report(finished())
        async with asyncio.timeout(30):
            await client.stop(timeout_s=0.05)
    assert len(left(tmp_path)) == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_batch_that_will_never_be_taken_does_not_block_the_next(tmp_path: Path, status: int) -> None:
    log = Log()
    network = Network(log, status)
    async with reporting(network, tmp_path) as client:
        client.report(finished(1))
        await eventually(lambda: network.requests == 1)
        client.report(finished(2))
        await arrived(log, 1, tmp_path)
    assert numbers(log) == [2]


async def test_the_caller_neither_waits_nor_fails(tmp_path: Path) -> None:
    """Not for a wrong report, nor without a disk: what is kept in memory then is bounded."""
    log = Log()
    blocked = tmp_path / "file"
    blocked.write_text("")
    wrong: list[Any] = [Report(app_version=1, event_type=None), Report(app_version="\ud800", event_type="a"), None]  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as lines:
        async with reporting(Network(log), blocked / "spool", queue_max=10) as client:
            for report in wrong:
                client.report(report)
            for number in range(30):
                client.report(finished(number))
            await eventually(lambda: any(line["event"] == "telemetry_spool_unwritable" for line in lines))
            blocked.unlink()
            client.report(finished(30))
            await arrived(log, 10, blocked / "spool")
    assert numbers(log) == list(range(21, 31))


async def test_what_may_not_be_said_is_neither_sent_nor_kept_nor_logged(tmp_path: Path) -> None:
    log = Log()
    network = Network(log, 503)
    with structlog.testing.capture_logs() as lines:
        async with reporting(network, tmp_path, Pauses(endless=True)) as client:
            client.report(Report(**FINISHED | {"failure_reason": "/home/marker/x.mkv"}))  # type: ignore[arg-type]
            client.report(finished())
            await eventually(lambda: network.requests == 1 and len(left(tmp_path)) == 1)
            assert "marker" not in json.dumps(left(tmp_path))
    (refusal,) = [line for line in lines if line["event"] == "telemetry_refused"]
    assert refusal["field"] == "failure_reason"
    assert "marker" not in repr(lines)
    assert len(log.records) == 1


async def test_many_reports_go_in_few_requests(tmp_path: Path) -> None:
    log, clock = Log(), Pauses()
    network = Network(log, *[503] * 5)
    async with reporting(network, tmp_path, clock) as client:
        for number in range(2 * BATCH_MAX):
            client.report(finished(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: set(numbers(log)) == set(range(2 * BATCH_MAX)))  # a slow request may come twice, under one id
    assert network.requests < 30


def test_the_spool_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, new_id, bytes_max=1000)
    dropped = sum(spool.keep([b"%03d" % number + b"x" * 96]) for number in range(30))
    assert dropped == 20
    assert [file.read_bytes()[:3] for file in spool.files()] == [b"%03d" % number for number in range(20, 30)]
    assert spool.keep([b"y" * 5000]) == 10, "the newest stays, whatever its size"


def test_files_that_are_sent_or_dropped_meanwhile_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, new_id, bytes_max=10)
    spool.keep([b"1"])
    there = spool.files()
    monkeypatch.setattr(Spool, "files", lambda self: [tmp_path / "gone.ndjson", *there])
    assert spool.keep([b"2"]) == 0
    assert spool.read() == (there, b"1\n")


def test_the_spool_gives_files_back_until_they_are_dealt_with(tmp_path: Path) -> None:
    spool = Spool(tmp_path, new_id)
    spool.keep([b"a", b"b"])
    spool.keep([b"c"])
    files, body = spool.read()
    assert body == b"a\nb\nc\n"
    assert spool.read() == (files, body)
    spool.forget(files)
    assert spool.read() == ([], b"")


# --- what workers report ----------------------------------------------------------------------------------------------


def test_a_processor_has_a_name_that_may_be_said(tmp_path: Path) -> None:
    assert reason_against(processor_name(), 128) is None
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: AMD Ryzen 7 5800X 8-Core Processor\n")
    assert processor_name(info) == "AMD Ryzen 7 5800X 8-Core Processor"
    assert processor_name(tmp_path / "none") == "CPU"


NODE = Node("0.1.0", "AMD Ryzen 7 5800X 8-Core Processor")


def encode(index: int = 0, **rungs: Any) -> EncodeSpec:
    """The job of one chunk."""
    made = footage.plan(**rungs).video
    assert made is not None
    source = Source(object_key="sources/v/original", size_bytes=12_000_000)
    return EncodeSpec(source=source, format="cmaf", plan=made, chunk=made.chunks[index])


def test_an_encode_is_reported_when_it_starts() -> None:
    report = telemetry.started(NODE, encode())
    assert report == Report(
        app_version="0.1.0",
        event_type="job_started",
        hardware_model=NODE.hardware_model,
        encoder="libx264",
        video_codec="h264",
        resolution="1080p",
        input_size_bytes=6_000_000,
    )


def test_an_encode_that_worked_is_reported_with_its_speed_and_sizes() -> None:
    spec, made = encode(), footage.chunk_result(footage.plan(), 0)
    report = telemetry.finished(NODE, spec, 6.0, made, None)
    assert report is not None
    assert (report.event_type, report.status, report.failure_reason, report.duration_ms) == ("job_finished", "success", None, 6000)
    assert report.speed_factor == pytest.approx(2.0, abs=0.01), "12 s of source in 6 s"
    largest = next(rendition for rendition in made.renditions if rendition.name == "1080p")
    assert report.output_size_bytes == sum(segment.object.size_bytes for segment in largest.segments)
    check_report(report)


def test_an_encode_that_fell_back_is_reported_by_the_encoder_that_did_it() -> None:
    made = footage.chunk_result(footage.plan(), 0).model_copy(update={"encoder": "libsvtav1", "fallback": "av1_qsv: no device"})
    report = telemetry.finished(NODE, encode(), 6.0, made, None)
    assert report is not None
    assert (report.encoder, report.status) == ("libsvtav1", "success")


def test_a_failure_is_reported_by_its_code_and_without_speed_and_size() -> None:
    failure = Failure(
        stage="encoding", category="codec_issues", code="CODEC_UNSUPPORTED", message="/home/marker", detail="/home/marker"
    )
    report = telemetry.finished(NODE, encode(), 1.5, None, failure)
    assert report is not None
    assert (report.status, report.failure_reason, report.duration_ms) == ("failure", "codec_unsupported", 1500)
    assert report.speed_factor is report.output_size_bytes is None
    assert "marker" not in repr(report)


def test_what_was_given_up_is_reported_as_the_predecessor_does() -> None:
    report = telemetry.finished(NODE, encode(), 1.5, None, None)
    assert report is not None
    assert (report.status, report.failure_reason) == ("failure", "cancelled")


def test_other_work_is_not_reported() -> None:
    spec = AnalyseSpec(source=Source(object_key="sources/v/original", size_bytes=1))
    assert telemetry.started(NODE, spec) is telemetry.finished(NODE, spec, 1.0, None, None) is None


@pytest.mark.parametrize(
    ("height", "name"), [(4320, "2160p"), (2160, "2160p"), (1600, "1440p"), (1080, "1080p"), (576, "480p"), (360, "360p")]
)
def test_resolutions_are_named_as_the_predecessor_names_them(height: int, name: str) -> None:
    rungs = [Rung(name="small", width=320, height=180, video_kbps=1, audio_kbps=1)]
    rungs.append(Rung(name="large", width=16, height=height, video_kbps=1, audio_kbps=1))
    assert telemetry.resolution(encode(rungs=rungs)) == name


def test_the_client_is_imported_without_the_platform() -> None:
    """A node that only reports needs neither the apps' and processors' frameworks, nor Kafka, nor a database."""
    code = (
        "import sys; import infra.runtime.telemetry, producers.telemetry, producers.reports"
        "; print(*{'.'.join(name.split('.')[:2]) for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"fastapi", "starlette", "faust", "mode", "aiokafka", "confluent_kafka", "psycopg", "pyarrow", "duckdb", "typer"}
    assert loaded & heavy == set()
    assert {name for name in loaded if name.split(".")[0] in ("projections", "processors", "api", "workers")} == set()
    assert {name for name in loaded if name.startswith("infra.")} == {"infra.runtime"}

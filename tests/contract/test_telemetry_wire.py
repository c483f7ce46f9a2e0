"""What clients of the predecessor meet, byte for byte, and the answers to its traps (docs: the description of POST /v1/event)."""

import gzip
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import Network
from api.connections import HEALTH
from api.telemetry import batches, documents, ingest
from events.actors import NODE
from events.codec import encode
from events.envelope import Envelope, Event
from events.faults import name_of
from events.telemetry import TelemetryReported
from events.topics import TELEMETRY
from producers import reports
from producers.anonymity import FIELDS
from tests.support.apps import client
from tests.support.strategies import values
from tests.support.telemetry import FINISHED, Log, Tally, make

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
ID = "019cebb0-2b6e-7d51-8f27-c4e19a03bd65"
LEAST = {"app_version": "1", "event_type": "job_started"}


async def post(log: Log, body: object = FINISHED, *, headers: dict[str, str] = JSON, **options: Any) -> httpx.Response:
    """Send one event."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client(make(log, **options), token=None) as http:
        return await http.post("/v1/event", content=content, headers=headers)


async def post_lines(log: Log, body: Any, *, headers: dict[str, str] = LINES, **options: Any) -> httpx.Response:
    """Send a batch."""
    async with client(make(log, **options), token=None) as http:
        return await http.post("/v1/events", content=body, headers=headers)


# --- one event --------------------------------------------------------------------------------------------------------


async def test_an_accepted_event_is_answered_with_202_and_nothing() -> None:
    log = Log()
    answer = await post(log)
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["content-length"] == "0"
    (envelope,) = log.events
    assert envelope.data == TelemetryReported(**FINISHED)


async def test_the_event_says_nothing_of_where_it_came_from() -> None:
    log = Log()
    await post(log, headers=JSON | {"User-Agent": "marker", "X-Forwarded-For": "192.0.2.7", "Referer": "http://marker"})
    ((key, value, timestamp_ms),) = log.records
    (envelope,) = log.events
    assert envelope.source == "kinolog/telemetry"
    assert envelope.id == envelope.subject == envelope.correlationid == key.decode()
    assert envelope.time == datetime.fromtimestamp(1_772_000_000, UTC), "whole seconds, of the server"
    assert timestamp_ms == 1_772_000_000_000
    assert b"marker" not in value and b"192.0" not in value
    assert set(json.loads(value)) == {"specversion", "id", "source", "type", "subject", "time", "correlationid", "actor", "data"}
    assert envelope.actor == "node" and envelope.client is None


async def test_what_is_optional_may_be_left_out_or_null() -> None:
    log = Log()
    assert (await post(log, LEAST)).status_code == 202
    assert (await post(log, LEAST | dict.fromkeys(set(FINISHED) - set(LEAST)))).status_code == 202
    assert log.events[0].data == log.events[1].data == TelemetryReported(**LEAST)


async def test_unknown_fields_are_ignored_as_the_real_client_sends_one() -> None:
    log = Log()
    assert (await post(log, FINISHED | {"fallback_kind": "codec", "hostname": "marker", "x": {"y": [1]}})).status_code == 202
    assert b"fallback" not in log.records[0][1] and b"marker" not in log.records[0][1]


@pytest.mark.parametrize("words", [{"event_type": "job_paused"}, {"status": "cancelled"}, {"event_type": "", "status": "Ü"}])
async def test_unknown_words_are_taken_and_kept(words: dict[str, str]) -> None:
    log = Log()
    assert (await post(log, FINISHED | words)).status_code == 202
    assert log.events[0].data == TelemetryReported(**(FINISHED | words))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"app_version":"1","event_type":"a"} x', b'{"app_version":"\xff"}', b'{"a":NaN}', b"\xef\xbb\xbf{}"],
)
async def test_bad_json_is_400(body: bytes) -> None:
    log = Log()
    answer = await post(log, body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert log.records == []


@pytest.mark.parametrize("nested", [b"[" * 5000 + b"]" * 5000, b'{"a":' * 2000 + b"1" + b"}" * 2000])
async def test_bottomless_json_is_400(nested: bytes) -> None:
    assert (await post(Log(), b'{"app_version":"1","event_type":"a","x":' + nested + b"}")).status_code == 400


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"app_version": None}, "app_version"),
        ({"app_version": 1}, "app_version"),
        ({"event_type": None}, "event_type"),
        ({"event_type": ["job_started"]}, "event_type"),
        ({"status": True}, "status"),
        ({"duration_ms": "2500"}, "duration_ms"),
        ({"duration_ms": 2500.0}, "duration_ms"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"input_size_bytes": 2**63}, "input_size_bytes"),
        ({"output_size_bytes": 10**400}, "output_size_bytes"),
        ({"speed_factor": "2.65"}, "speed_factor"),
        ({"speed_factor": -0.5}, "speed_factor"),
        ({"speed_factor": 1e300}, "speed_factor"),
        ({"event_id": "1"}, "event_id"),
        ({"event_id": 1}, "event_id"),
        ({"event_id": ID + "0"}, "event_id"),
        ({"hardware_model": "x" * 129}, "hardware_model"),
        ({"hardware_model": "/home/marker"}, "hardware_model"),
        ({"failure_reason": "marker.mkv"}, "failure_reason"),
        ({"event_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}, "event_id"),
    ],
)
async def test_wrong_types_and_private_values_are_422_with_the_name_of_the_field(change: dict[str, Any], field: str) -> None:
    log = Log()
    answer = await post(log, FINISHED | change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == f"body.{field}"
    assert "marker" not in answer.text and "00a0c9" not in answer.text
    assert log.records == []


@pytest.mark.parametrize("field", ["app_version", "event_type"])
async def test_a_missing_field_is_422(field: str) -> None:
    answer = await post(Log(), {name: value for name, value in FINISHED.items() if name != field})
    assert (answer.status_code, answer.json()["detail"]) == (422, f"the {name_of((field,))} is missing")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
async def test_json_that_is_no_object_is_422(body: bytes) -> None:
    assert (await post(Log(), body)).status_code == 422


def padded(size_bytes: int) -> bytes:
    """An event of this many bytes."""
    body = json.dumps(LEAST | {"padding": ""}).encode()
    return body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size_bytes - len(body)) + b'"')


@pytest.mark.parametrize(("size_bytes", "status"), [(16_384, 202), (16_385, 413), (1_000_000, 413), (3_000_000, 413)])
async def test_more_than_16384_bytes_are_413(size_bytes: int, status: int) -> None:
    log = Log()
    assert len(padded(size_bytes)) == size_bytes
    assert (await post(log, padded(size_bytes))).status_code == status
    assert len(log.records) == (status == 202)


@pytest.mark.parametrize(("size_bytes", "status"), [(16_384, 202), (16_385, 413), (3_000_000, 413)])
async def test_a_body_in_chunks_has_the_same_limit(size_bytes: int, status: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        body = padded(size_bytes)
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with client(make(Log()), token=None) as http:
        assert (await http.post("/v1/event", content=chunks(), headers=JSON)).status_code == status


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}])
async def test_other_content_types_are_415(headers: dict[str, str]) -> None:
    assert (await post(Log(), headers=headers)).status_code == 415


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
async def test_json_is_known_by_its_type_whatever_follows(kind: str) -> None:
    assert (await post(Log(), headers={"Content-Type": kind})).status_code == 202


async def test_a_compressed_event_is_415() -> None:
    assert (await post(Log(), gzip.compress(b"{}"), headers=JSON | {"Content-Encoding": "gzip"})).status_code == 415


@pytest.mark.parametrize("path", ["/v1/event", "/v1/events"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(path: str, method: str) -> None:
    async with client(make(Log()), token=None) as http:
        answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


async def test_a_client_is_limited_to_a_burst_of_10_and_learns_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log, hundredths = Log(), itertools.count(100)
    monkeypatch.setattr("api.telemetry.ingest.monotonic", lambda: next(hundredths) / 100)
    async with client(make(log, per_minute=30, burst=10), token=None) as http:
        answers = [await http.post("/v1/event", json=FINISHED) for _ in range(12)]
        assert [answer.status_code for answer in answers] == [202] * 10 + [429] * 2
        assert answers[-1].headers["retry-after"] == "2"
        assert answers[-1].headers["access-control-allow-origin"] == "*"
        assert (await http.post("/v1/events", content=b"", headers=LINES)).status_code == 429, "both routes have one limit"
        assert (await http.get("/health")).status_code == 200, "health has none"
    assert len(log.records) == 10


PROXIED: list[tuple[list[Network], str, list[int]]] = [
    ([], "192.0.2.{}", [202, 202, 429]),  # nobody may say who he is
    ([ip_network("127.0.0.0/8")], "192.0.2.{}", [202, 202, 202]),
    ([ip_network("127.0.0.0/8")], "192.0.2.{}, 198.51.100.1", [202, 202, 429]),  # only the proxy's own word counts
    ([ip_network("127.0.0.0/8"), ip_network("198.51.100.0/24")], "192.0.2.{}, 198.51.100.1", [202, 202, 202]),
    ([ip_network("127.0.0.0/8")], "2001:db8:1:2::{}", [202, 202, 429]),  # one client, a network of its own
    ([ip_network("127.0.0.0/8")], "2001:db8:1:{}::1", [202, 202, 202]),
    ([ip_network("127.0.0.0/8")], "nonsense-{}", [202, 202, 429]),
]


@pytest.mark.parametrize(("trusted", "forwarded", "statuses"), PROXIED)
async def test_the_address_is_believed_from_trusted_proxies_only(
    trusted: list[Network], forwarded: str, statuses: list[int]
) -> None:
    async with client(make(Log(), per_minute=1, burst=2, trusted=trusted), token=None) as http:
        found = []
        for number in range(3):
            headers = {"X-Forwarded-For": forwarded.format(number)}
            found.append((await http.post("/v1/event", json=FINISHED, headers=headers)).status_code)
    assert found == statuses


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_the_event_id_is_the_id_of_the_event() -> None:
    log = Log()
    assert (await post(log, FINISHED | {"event_id": ID.upper()})).status_code == 202
    (envelope,) = log.events
    assert envelope.id == envelope.subject == ID
    assert b"event_id" not in log.records[0][1]


async def test_events_without_an_id_are_events_of_their_own() -> None:
    log = Log()
    async with client(make(log), token=None) as http:
        for _ in range(2):
            await http.post("/v1/event", json=FINISHED | {"event_id": None})
    first, second = log.events
    assert first.id != second.id


async def test_a_log_that_is_away_is_503_and_nothing_was_taken() -> None:
    log = Log(away=True)
    answer = await post(log)
    assert (answer.status_code, answer.headers["retry-after"], log.records) == (503, "1", [])


async def test_what_nobody_knows_the_end_of_is_not_written_again() -> None:
    """The log took the event and fell silent: the same id waits for the first outcome, and then is not put twice."""
    log = Log(silent=True)
    event = FINISHED | {"event_id": ID}
    async with client(make(log), token=None) as http:
        assert (await http.post("/v1/event", json=event)).status_code == 503
        log.silent = False
        assert log.outcome is not None
        log.outcome.set_result({})
        assert (await http.post("/v1/event", json=event)).status_code == 202
        assert (await http.post("/v1/event", json=FINISHED)).status_code == 202
    assert [envelope.id for envelope in log.events].count(ID) == 1
    assert len(log.events) == 2


async def test_what_was_not_written_after_all_is_written_when_it_comes_again() -> None:
    log = Log(silent=True)
    event = FINISHED | {"event_id": ID}
    async with client(make(log), token=None) as http:
        assert (await http.post("/v1/event", json=event)).status_code == 503
        log.silent = False
        log.records.clear()
        assert log.outcome is not None
        log.outcome.set_exception(RuntimeError("given up"))
        assert (await http.post("/v1/event", json=event)).status_code == 202
    assert [envelope.id for envelope in log.events] == [ID]


# --- batches ----------------------------------------------------------------------------------------------------------


def lines(*reports: object) -> bytes:
    """NDJSON."""
    return b"".join(json.dumps(report).encode() + b"\n" for report in reports)


ENCODINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("count", [0, 1, 3000])
async def test_a_batch_is_on_the_log_line_by_line(encoding: str, count: int) -> None:
    log = Log()
    body = ENCODINGS[encoding](lines(*[FINISHED | {"duration_ms": number} for number in range(count)]))
    answer = await post_lines(log, body, headers=LINES | {"Content-Encoding": encoding})
    assert answer.status_code == 200
    assert answer.json() == {"lines": count, "accepted": count, "refused": 0, "verdicts": []}
    assert [envelope.data.duration_ms for envelope in log.events] == list(range(count))  # type: ignore[attr-defined]
    assert len({envelope.id for envelope in log.events}) == count


async def test_a_batch_may_be_several_compressed_parts_in_a_row() -> None:
    parts = [lines(FINISHED), lines(LEAST), lines(FINISHED)]
    for encoding in ("gzip", "zstd"):
        log = Log()
        body = b"".join(map(ENCODINGS[encoding], parts))
        answer = await post_lines(log, body, headers=LINES | {"Content-Encoding": encoding})
        assert answer.json()["accepted"] == len(log.events) == 3


async def test_each_line_that_is_refused_has_a_verdict() -> None:
    log, tally = Log(), Tally()
    body = b"\n".join(
        [
            json.dumps(FINISHED).encode(),
            b"",
            b"?nonsense",
            json.dumps(FINISHED | {"hardware_model": "/home/marker"}).encode() + b"\r",
            padded(16_385),
            b'{"event_type":"a"}',
            json.dumps(FINISHED | {"event_id": ID}).encode(),
        ]
    )
    answer = await post_lines(log, body, tally=tally)
    assert answer.json() == {
        "lines": 7,
        "accepted": 2,
        "refused": 4,
        "verdicts": [
            {"line": 3, "status": 400, "detail": "JSON is malformed: invalid character (byte 0)"},
            {"line": 4, "status": 422, "detail": "the hardware model looks like a path", "field": "hardware_model"},
            {"line": 5, "status": 413, "detail": "the line is longer than 16384 bytes"},
            {"line": 6, "status": 422, "detail": "the app version is missing", "field": "app_version"},
        ],
    }
    assert [envelope.id for envelope in log.events][1] == ID
    assert (tally.accepted, tally.refused) == (2, 4)


@given(st.lists(st.sampled_from([json.dumps(FINISHED).encode(), b"{}", b"", b"x" * 20_000]), max_size=60), st.integers(1, 70_000))
async def test_verdicts_do_not_depend_on_how_the_body_was_cut(rows: list[bytes], piece: int) -> None:
    body = b"\n".join(rows)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    log = Log()
    answer = (await post_lines(log, chunks())).json()
    expected = [(number, 413 if len(row) > 16_384 else 422) for number, row in enumerate(rows, 1) if row in (b"{}", b"x" * 20_000)]
    assert [(verdict["line"], verdict["status"]) for verdict in answer["verdicts"]] == expected
    assert answer["accepted"] == len(log.events) == rows.count(json.dumps(FINISHED).encode())


@pytest.mark.parametrize(("encoding", "detail"), [("gzip", "the gzip body ends early"), ("zstd", "the zstd body ends early")])
async def test_a_compressed_body_that_ends_early_is_400(encoding: str, detail: str) -> None:
    body = ENCODINGS[encoding](lines(FINISHED, LEAST))[:-6]
    answer = await post_lines(Log(), body, headers=LINES | {"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_that_is_not_what_it_says_is_400(encoding: str) -> None:
    answer = await post_lines(Log(), lines(FINISHED), headers=LINES | {"Content-Encoding": encoding})
    assert answer.status_code == 400


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_bomb_is_413(encoding: str) -> None:
    body = ENCODINGS[encoding](b"\n" + b" " * (batches.BODY_BYTES_MAX * 4))
    assert len(body) < 200_000
    answer = await post_lines(Log(), body, headers=LINES | {"Content-Encoding": encoding})
    assert answer.status_code == 413


async def test_too_many_lines_are_413_and_the_answer_says_how_many_were_taken() -> None:
    log = Log()
    answer = await post_lines(log, lines(LEAST) * (batches.LINES_MAX + 1))
    body = answer.json()
    assert answer.status_code == 413
    assert 0 < body["lines"] == body["accepted"] == len(log.events) <= batches.LINES_MAX


async def test_a_batch_while_the_log_is_away_is_503() -> None:
    answer = await post_lines(Log(away=True), lines(*[FINISHED] * 2000))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["accepted"] == 0


async def test_a_batch_that_comes_again_is_not_written_again() -> None:
    log = Log(silent=True)
    ids = [ID[:-3] + f"{number:03}" for number in range(100)]
    body = lines(*[FINISHED | {"event_id": event_id} for event_id in ids])
    async with client(make(log), token=None) as http:
        assert (await http.post("/v1/events", content=body, headers=LINES)).status_code == 503
        log.silent = False
        assert log.outcome is not None
        log.outcome.set_result({})
        assert (await http.post("/v1/events", content=body, headers=LINES)).json()["accepted"] == 100
    assert sorted(envelope.id for envelope in log.events) == ids


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/csv"}, LINES | {"Content-Encoding": "br"}, LINES | {"Content-Encoding": "gzip, gzip"}]
)
async def test_a_batch_of_another_kind_is_415(headers: dict[str, str]) -> None:
    answer = await post_lines(Log(), lines(LEAST), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, zstd")


# --- around -----------------------------------------------------------------------------------------------------------


async def test_health_says_ok() -> None:
    async with client(make(Log()), token=None) as http:
        answer = await http.get("/health")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"OK", "text/plain; charset=utf-8")


async def test_ready_says_what_is_missing() -> None:
    async with client(make(Log()), token=None) as http:
        assert (await http.get("/ready")).json() == {"status": "ready", "can": {"read": True, "write": True}, "missing": {}}
    async with client(make(Log(), missing={"kafka": "is away"}), token=None) as http:
        ready = await http.get("/ready")
        assert (ready.status_code, (await http.get("/health")).status_code) == (503, 200)
        assert ready.json() == {"status": "not ready", "can": {"read": True, "write": False}, "missing": {"kafka": "is away"}}


@pytest.mark.parametrize("path", ["/v1/event", "/v1/events", "/health", "/ready"])
async def test_any_site_may_ask(path: str) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-any"}
    async with client(make(Log()), token=None) as http:
        answer = await http.options(path, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        if path.startswith("/v1"):
            assert answer.headers["access-control-allow-methods"] == answer.headers["access-control-allow-headers"] == "*"
        for sent in ({}, FINISHED):
            assert (await http.post(path, json=sent)).headers["access-control-allow-origin"] == "*"


async def test_hot_routes_are_counted() -> None:
    tally = Tally()
    async with client(make(Log(), tally=tally), token=None) as http:
        await http.post("/v1/event", json=FINISHED)
        await http.post("/v1/event", json={})
        await http.post("/v1/events", content=lines(LEAST, {}), headers=LINES)
        await http.get("/health")
    assert tally.answers == [("/v1/event", 202), ("/v1/event", 422), ("/v1/events", 200)]
    assert (tally.accepted, tally.refused) == (2, 2)


async def test_a_bug_is_a_problem_whose_log_line_repeats_nothing_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("marker")

    monkeypatch.setattr(ingest, "read", broken)
    with structlog.testing.capture_logs() as said:
        answer = await post(Log())
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert said[0]["event"] == "ingest_failed" and "test_telemetry_wire" in said[0]["where"]
    assert "marker" not in answer.text


def test_the_hot_routes_are_described_as_they_are() -> None:
    document = make(Log()).openapi()
    assert {ingest.EVENT, ingest.EVENTS, HEALTH} <= set(document["paths"])
    described = document["components"]["schemas"]["Report"]["properties"]
    assert set(described) == set(reports.Report.__struct_fields__) == {*TelemetryReported.model_fields, "event_id"}
    assert {name: field["maxLength"] for name, field in described.items() if "maxLength" in field} == FIELDS
    assert reports.read(json.dumps(documents.REPORT).encode())


# --- the bytes on the log ---------------------------------------------------------------------------------------------


@given(values(TelemetryReported), st.none() | st.floats(0, reports.SPEED_MAX), st.uuids(), st.integers(0, 4_000_000_000))
def test_the_fast_path_writes_what_the_codec_would(
    event: TelemetryReported, speed_factor: float | None, event_id: UUID, seconds: int
) -> None:
    """Whatever the texts: escapes, letters of any script, and every number that gets past the limits."""
    event = event.model_copy(update={"speed_factor": speed_factor})
    report = reports.Report(**event.model_dump(), event_id=str(event_id))
    second = reports.second_of(seconds + 0.7)
    ((key, value, timestamp_ms),) = reports.records_of([report], second, lambda: "unused")
    envelope: Envelope[Event] = Envelope(
        str(event_id), reports.SOURCE, str(event_id), second.time, event, str(event_id), None, NODE
    )
    assert value == encode(envelope)
    assert (key.decode(), timestamp_ms) == (str(event_id), seconds * 1000)
    assert TELEMETRY.events == (TelemetryReported,)

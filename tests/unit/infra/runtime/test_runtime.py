"""Logs, metrics and the clock: what every process stands on."""

import asyncio
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from uuid import UUID

import httpx
import pytest
import structlog

from infra.local.programs import http_warnings
from infra.runtime import logs, metrics
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.settings import Settings


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_named_by_its_action_and_carries_the_correlation(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), "worker-1", stream)
    with structlog.contextvars.bound_contextvars(correlation_id="c1"):
        structlog.get_logger().info("job_claimed", job_id="j1", epoch=3)
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "action"]
    del line["timestamp"]
    assert line == {
        "level": "info",
        "action": "job_claimed",
        "job_id": "j1",
        "epoch": 3,
        "correlation_id": "c1",
        "process": "worker-1",
    }


def test_libraries_speak_alike(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), "admin", stream)
    logging.getLogger("uvicorn.error").info("listening on %s", 9001)
    logging.getLogger("aiokafka").info("too chatty")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    first, second = lines(stream)
    assert (first["action"], first["message"], first["process"]) == ("uvicorn.error", "listening on 9001", "admin")
    assert second["action"] == "py.warnings"


def test_below_the_level_nothing_is_said(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json", log_level="warning"), "admin", stream)
    structlog.get_logger().info("seen")
    logging.getLogger("anything").info("seen")
    assert stream.getvalue() == ""


def test_lines_of_ours_about_other_subjects_are_never_taken_for_repeats(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), "processors", stream)
    log = structlog.get_logger("processors")
    for _ in range(5):
        for subject in ("v1", "v2"):
            for offset in (17, 18):
                log.warning("batch_failed", subject=subject, offset=offset, failures=3, error="no answer after 3 s")
    logging.getLogger().handlers[0].close()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert Counter((line["subject"], line["offset"]) for line in found) == dict.fromkeys(
        [("v1", 17), ("v1", 18), ("v2", 17), ("v2", 18)], 2
    )
    assert [line["repeated"] for line in found[4:]] == [4] * 4


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_and_local_variables_are_not_logged(log_format: str, stream: io.StringIO) -> None:
    logs.configure(Settings.from_env({"KINOLOG_LOG_FORMAT": log_format}), "admin", stream)
    log = structlog.get_logger()
    try:
        hidden = "hunter" + "2"
        raise ValueError("broken")
    except ValueError:
        log.exception("request_failed", token=hidden, authorization=hidden)
    assert "ValueError: broken" in stream.getvalue()
    assert hidden not in stream.getvalue()


async def test_health_readiness_and_metrics_are_served() -> None:
    missing: dict[str, str] = {}
    warnings: dict[str, str] = {}

    async def ready() -> Mapping[str, str]:
        return missing

    async def warned() -> Mapping[str, str]:
        return warnings

    async with metrics.serve(0, ready, warned=warned) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/ready")).json() == {"status": "ready"}
        warnings["catalog"] = "v1 was made by other code"
        answer = await http.get("/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", "warnings": warnings})
        assert await asyncio.to_thread(http_warnings, f"http://127.0.0.1:{port}/ready") == warnings
        missing["kafka"] = "does not answer"
        answer = await http.get("/ready?verbose")
        assert (answer.status_code, answer.json()["missing"]) == (503, missing)
        metrics.DEAD_LETTERS.labels("videos", "catalog").inc()
        scraped = await http.get("/metrics")
        assert scraped.headers["content-type"] == metrics.CONTENT_TYPE
        assert 'kinolog_dead_letters_total{reader="catalog",topic="videos"}' in scraped.text
        assert (await http.head("/metrics")).content == b""
        assert (await http.get("/")).status_code == 404
        assert (await http.post("/ready")).status_code == 405
        for path in ("/health", "/metrics", "/"):
            assert (await http.get(path)).headers["x-content-type-options"] == "nosniff"


async def test_metrics_are_shown_to_this_machine_or_to_who_has_the_token() -> None:
    async with metrics.serve(0) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})).status_code == 401
    async with metrics.serve(0, metrics_token="secret") as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/metrics", headers={"Authorization": "Bearer other"})).status_code == 401
        assert (await http.get("/metrics", headers={"Authorization": "Bearer secret"})).status_code == 200
        assert (await http.get("/health")).status_code == 200


async def test_silent_connections_do_not_keep_the_metrics_server_from_answering() -> None:
    async with metrics.serve(0) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * metrics.CONNECTIONS_MAX)]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
        ended = [reader for reader, _ in opened[: metrics.CONNECTIONS_MAX]]
        for reader in ended:
            with suppress(ConnectionResetError):
                assert not await reader.read()
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n"])
async def test_the_metrics_server_wants_one_host(hosts: str) -> None:
    async with metrics.serve(0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /health HTTP/1.1\r\n{hosts}\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.parametrize("request_bytes", [b"", b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000])
async def test_nonsense_does_not_harm_the_metrics_server(request_bytes: bytes) -> None:
    async with metrics.serve(0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        writer.write_eof()
        with suppress(ConnectionResetError):  # it hung up on us, which is right
            await reader.read()
        writer.close()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200


async def test_a_taken_port_is_an_error_at_once() -> None:
    async with metrics.serve(0) as port:
        with pytest.raises(
            metrics.PortTaken, match=rf"port {port} of 127.0.0.1 cannot be had \(Address already in use\); settings"
        ):
            async with metrics.serve(port):
                pass


async def test_the_real_clock_is_aware_and_contexts_stand_still() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0)
    context = system_context("kinolog/test", "c1")
    assert before.tzinfo is UTC
    assert before <= context.now <= clock.now()
    assert (context.source, context.correlation_id) == ("kinolog/test", "c1")
    assert context.rng is not None


def test_new_ids_are_uuid7_in_order() -> None:
    ids = [new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert {UUID(one).version for one in ids} == {7}

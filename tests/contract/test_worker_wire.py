"""The wire of the worker app: the calls that workers know, what they send, and what they read in the answers.

A worker on another machine is as old as it is: what is here may get more, and nothing may go.
"""

from typing import Any

import pytest

from tests.support.apps import make_worker

DOCUMENT = make_worker().openapi()
JOB = "/api/worker/{job_id}"
UPLOAD = "/api/worker/upload/{job_id}"
CALLS: list[tuple[str, str, set[str], set[str]]] = [
    (
        "post",
        "/api/worker/register",
        {"worker_name", "pool", "code_version", "capabilities", "cpu_count", "memory_bytes"},
        {"worker_id", "api_key", "expires_at", "version_ok", "message"},
    ),
    ("put", "/api/worker/self", {"worker_name", "pool", "code_version", "capabilities"}, {"status", "message"}),
    (
        "post",
        "/api/worker/heartbeat",
        {"status", "code_version", "job_ids"},
        {"status", "server_time", "required_version", "version_ok", "worker_status", "current_job_id", "last_heartbeat_recorded"},
    ),
    (
        "post",
        "/api/worker/claim",
        {"claim_id", "pool", "code_version", "capabilities", "wait_s"},
        {"job_id", "video_id", "epoch", "attempt", "claim_expires_at", "correlation_id", "claim", "reason", "message"},
    ),
    (
        "post",
        f"{JOB}/progress",
        {"epoch", "current_step", "progress_percent", "frames", "speed", "quality_progress"},
        {"status", "state", "claim_expires_at"},
    ),
    ("post", f"{JOB}/complete", {"epoch", "result"}, {"status", "message"}),
    (
        "post",
        f"{JOB}/fail",
        {"epoch", "error_message", "retry", "failure"},
        {"status", "will_retry", "attempt_number", "retry_at"},
    ),
    ("post", f"{JOB}/release", {"epoch", "reason"}, {"status", "message"}),
    ("get", f"{JOB}/verify-complete", set(), {"all_files_present", "job_status", "epoch", "qualities_present", "missing_files"}),
    ("post", f"{UPLOAD}/segment/{{quality}}/{{filename}}", set(), {"status", "written", "bytes_written", "checksum_verified"}),
    ("post", f"{UPLOAD}/file/{{filename}}", set(), {"status", "written", "bytes_written", "checksum_verified"}),
    ("post", f"{UPLOAD}/archive", set(), {"status", "files", "written", "bytes_written"}),
    ("get", f"{UPLOAD}/segments/status", set(), {"quality", "received_segments", "total_size_bytes"}),
    (
        "post",
        f"{UPLOAD}/segment/finalize",
        {"epoch", "quality", "segment_count", "first_segment", "extension"},
        {"status", "complete", "missing_segments"},
    ),
    ("post", "/api/worker/deployment", {"event", "version", "previous_version", "reason"}, {"status", "message"}),
    ("post", "/api/worker/host", {"name", "state"}, {"status", "message"}),
    ("post", "/api/worker/goodbye", {"reason"}, {"status", "message"}),
    ("post", "/api/worker/rotate", {"overlap_s"}, {"worker_id", "api_key", "expires_at"}),
]
MUST = {
    f"{JOB}/progress": {"epoch"},
    f"{JOB}/complete": {"epoch", "result"},
    f"{JOB}/fail": {"epoch"},
    f"{JOB}/release": {"epoch", "reason"},
    "/api/worker/claim": {"claim_id", "code_version", "capabilities"},
    "/api/worker/heartbeat": set(),
}
"""What must be sent; what may is the rest. More would shut older workers out."""


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    schema = content["application/json"]["schema"]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


@pytest.mark.parametrize(("method", "path", "sent", "answered"), CALLS, ids=[f"{method} {path}" for method, path, *_ in CALLS])
def test_a_call_keeps_its_shape(method: str, path: str, sent: set[str], answered: set[str]) -> None:
    operation = DOCUMENT["paths"][path][method]
    if sent:
        assert sent <= set(schema_of(operation["requestBody"]["content"])["properties"])
    assert answered <= set(schema_of(operation["responses"]["200"]["content"])["properties"])


@pytest.mark.parametrize(("path", "must"), MUST.items())
def test_no_call_wants_more_than_it_did(path: str, must: set[str]) -> None:
    body = schema_of(DOCUMENT["paths"][path]["post"]["requestBody"]["content"])
    assert set(body.get("required", ())) == must


@pytest.mark.parametrize("path", [path for path in DOCUMENT["paths"] if "{job_id}" in path])
def test_everything_about_a_job_carries_the_epoch(path: str) -> None:
    for operation in DOCUMENT["paths"][path].values():
        query = {parameter["name"] for parameter in operation["parameters"] if parameter.get("required")}
        body = schema_of(operation["requestBody"]["content"]).get("required", ()) if "requestBody" in operation else ()
        assert "epoch" in query or "epoch" in body
        assert {"401", "403", "404", "409"} <= set(operation["responses"])

"""OpenAPI's description of the hot routes, which FastAPI does not know: written by hand, compared with the code by tests."""

from typing import Any

from api import problems
from api.connections import HEALTH
from api.telemetry.batches import BODY_BYTES_MAX, LINE_BYTES_MAX, LINES_MAX
from api.telemetry.ingest import EVENT, EVENT_BYTES_MAX, EVENTS
from api.telemetry.insights import INSIGHTS
from events.telemetry import WHOLE_MAX
from producers.anonymity import FIELDS
from producers.reports import SPEED_MAX
from projections.telemetry.insights import BOARD_MAX, STABILITY_MAX

REPORT = {
    "app_version": "1.0.0",
    "event_type": "job_finished",
    "status": "success",
    "hardware_model": "Intel Arc A380",
    "encoder": "av1_qsv",
    "video_codec": "av1",
    "resolution": "1080p",
    "duration_ms": 2500,
    "input_size_bytes": 1024000,
    "output_size_bytes": 600100,
    "speed_factor": 2.65,
    "event_id": "019cebb0-2b6e-7d51-8f27-c4e19a03bd65",
}
BOARD = {
    "schema": 1,
    "coverage": {"total_jobs": 15420, "unique_hardware": 12},
    "leaderboard": [
        {
            "hardware": "Intel",
            "encoder": "av1_qsv",
            "codec": "av1",
            "res": "1080p",
            "speed": 2.65,
            "reduction": 0.41394,
            "samples": 250,
        }
    ],
    "stability": [{"encoder": "av1_qsv", "error": "transcode_failed", "count": 8}],
}
_WORDS = {
    "app_version": "Version of the program that reports.",
    "event_type": "`job_started` or `job_finished`; other words are kept unchanged.",
    "status": "`success` or `failure`, once a job has ended; other words are kept unchanged.",
    "failure_reason": "A category, when the status is `failure`: `cancelled`, `transcode_failed`, `finalize_failed` …",
    "hardware_model": "The encoding GPU or CPU, or its maker.",
    "encoder": "The encoder's name, as `av1_qsv`, `hevc_nvenc`.",
    "video_codec": "Codec of the output, as `av1`.",
    "resolution": "Resolution of the output, as `1080p`.",
    "duration_ms": "Duration of the job, milliseconds.",
    "input_size_bytes": "Size of the input, bytes.",
    "output_size_bytes": "Size of the output, bytes.",
    "speed_factor": "Seconds of video per second; higher is faster.",
}
_EVENT = """Report a job that began or ended. The answer 202, without a body, means that the event is on the log.

Clients of the predecessor work unchanged: unknown fields are ignored, any `event_type` and `status` is accepted, optional
fields may be left out or null, and a failure may have neither speed nor sizes. Types are strict: a number in quotes, or a
fraction where a whole number is expected, is 422.

**Retries.** A request that was answered 429, 503 or not at all may be repeated. Send an `event_id`, a random UUID made
once for each event, and keep it: the event then counts once, however often and however late it is repeated. Without an
`event_id` each request is an event of its own. A job is reported twice, when it starts and when it ends: counts of events
include both, counts of jobs count pairs.

**Anonymity.** Only the fields below are kept, with the server's time in whole seconds and no address. A text that looks
like a path, the name of a file, a title with an extension, an e-mail or network address or the id of a device is refused
with 422 and the field's name; the value is repeated nowhere. For 429, addresses are counted as keyed hashes, in memory.
"""
_EVENTS = f"""Report many jobs at once: one JSON object a line, each as for `POST {EVENT}`, in at most {LINES_MAX:,} lines,
{LINE_BYTES_MAX:,} bytes a line and {BODY_BYTES_MAX:,} bytes in all, decompressed. The body may be compressed with gzip or
zstd, and may arrive in chunks.

The answer comes when every accepted line is on the log. It counts the lines, and has a verdict for each refused line, with
the status of a single refused event. A line without a verdict was accepted; blank lines do not count. After an early end,
400, 408, 413 and 503 have the same members for the first `lines` lines; the outcome of later lines is unknown. Repeat a
batch with the same `event_id` in each line, and nothing counts twice.

A request counts as one for 429, whatever its size.
"""

_INSIGHTS = """The leaderboard and the report of stability, as the predecessor of this service made them; `GET /api/v2/insights`
has more and better figures. The answer is at most a second behind the projection. The predecessor's page and clients rely
on its code where its text differs, so the code decides:

- `reduction` is a fraction, 0..1, not a percentage; below 0 when outputs are larger than inputs.
- `total_jobs` counts all events, of any type: a job that is reported at its start and its end counts twice.
- `samples` counts failures, too. They have neither speed nor sizes, and so no part in the averages.
- `count` is the number of failures, not divided by attempts.
- Unknown values, and the reduction of an input of 0 bytes, are 0.0.

Rules of our own: at equal speeds the line with more samples comes first; equal counts are in alphabetical order; an event
that came twice under its `event_id` counts once; hardware beyond the most common names is called `other`, while
`unique_hardware` counts all names.
"""


def paths() -> dict[str, Any]:
    """Return the paths of the hot routes."""
    return {
        INSIGHTS: {"get": _insights()},
        HEALTH: {"get": _health()},
        EVENT: {"post": _event()},
        EVENTS: {"post": _events()},
    }


def schemas() -> dict[str, Any]:
    """Return the schemas that they refer to."""
    text = {"type": ["string", "null"]}
    whole = {"type": ["integer", "null"], "minimum": 0, "maximum": WHOLE_MAX}
    properties: dict[str, Any] = {name: text | {"maxLength": length} for name, length in FIELDS.items()}
    for name in ("app_version", "event_type"):
        properties[name]["type"] = "string"
    for name in ("duration_ms", "input_size_bytes", "output_size_bytes"):
        properties[name] = dict(whole)
    properties["speed_factor"] = {"type": ["number", "null"], "minimum": 0, "maximum": SPEED_MAX}
    for name, words in _WORDS.items():
        properties[name] = {"description": words, **properties[name]}
    identity = {"type": ["string", "null"], "format": "uuid", "description": "The same at every retry; made anew for each event."}
    count = {"type": "integer", "minimum": 0}
    verdict = {
        "line": {"type": "integer", "minimum": 1},
        "status": {"type": "integer", "enum": [400, 413, 422]},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    }
    line = {name: {"type": "string"} for name in ("hardware", "encoder", "codec", "res")}
    line |= {"speed": {"type": "number"}, "reduction": {"type": "number"}, "samples": count}  # type: ignore[dict-item]
    fault = {"encoder": {"type": "string"}, "error": {"type": "string"}, "count": count}
    board = {
        "schema": {"type": "integer", "const": 1},
        "coverage": _object({"total_jobs": count, "unique_hardware": count}),
        "leaderboard": {"type": "array", "maxItems": BOARD_MAX, "items": _object(line)},
        "stability": {"type": "array", "maxItems": STABILITY_MAX, "items": _object(fault)},
    }
    return {
        "Board": _object(board),
        "Report": {
            "type": "object",
            "required": ["app_version", "event_type"],
            "properties": properties | {"event_id": identity},
            "additionalProperties": True,
            "example": REPORT,
        },
        "Verdict": {"type": "object", "required": ["line", "status", "detail"], "properties": verdict},
        "Verdicts": {
            "type": "object",
            "required": ["lines", "accepted", "refused", "verdicts"],
            "properties": {
                "lines": count,
                "accepted": count,
                "refused": count,
                "verdicts": {"type": "array", "items": {"$ref": "#/components/schemas/Verdict"}},
            },
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _insights() -> dict[str, Any]:
    seen = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}, "description": "The ETag of an earlier answer."}
    headers = {
        "ETag": {"schema": {"type": "string"}},
        "Cache-Control": {"schema": {"type": "string"}},
        "X-Log-Position": {"schema": {"type": "string"}, "description": "Position of the log up to which it was folded."},
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Board"}, "example": BOARD}}
    return {
        "tags": ["insights"],
        "operationId": "stats_insights",
        "summary": "Leaderboard and stability",
        "description": _INSIGHTS,
        "parameters": [seen],
        "responses": {
            "200": {"description": "The insights.", "headers": headers, "content": content},
            "304": {"description": "They are still those of the ETag.", "headers": headers},
        }
        | _problems(405, 429, 503),
    }


def _event() -> dict[str, Any]:
    started = {"app_version": "1.0.0", "event_type": "job_started", "hardware_model": "Intel", "input_size_bytes": 1024000}
    failed = {**started, "event_type": "job_finished", "status": "failure", "failure_reason": "transcode_failed"}
    examples = {"finished": {"value": REPORT}, "started": {"value": started}, "failed": {"value": failed}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Report"}, "examples": examples}}
    return {
        "tags": ["ingest"],
        "operationId": "report_event",
        "summary": "Report one event",
        "description": _EVENT,
        "requestBody": {"required": True, "description": f"At most {EVENT_BYTES_MAX:,} bytes.", "content": content},
        "responses": {"202": {"description": "The event is on the log. No body."}}
        | _problems(400, 405, 408, 413, 415, 422, 429, 503),
    }


def _events() -> dict[str, Any]:
    line = '{"app_version":"1.0.0","event_type":"job_finished","status":"success","encoder":"av1_qsv"}'
    refused = {"line": 2, "status": 422, "detail": "the hardware model looks like a path", "field": "hardware_model"}
    answer = {"lines": 2, "accepted": 1, "refused": 1, "verdicts": [refused]}
    content = {"schema": {"$ref": "#/components/schemas/Verdicts"}, "example": answer}
    return {
        "tags": ["ingest"],
        "operationId": "report_events",
        "summary": "Report many events",
        "description": _EVENTS,
        "requestBody": {
            "required": True,
            "description": "Lines of JSON; Content-Encoding may be gzip or zstd.",
            "content": {"application/x-ndjson": {"schema": {}, "example": f"{line}\n{line}\n"}},
        },
        "responses": {"200": {"description": "Every accepted line is on the log.", "content": {"application/json": content}}}
        | _problems(400, 405, 408, 413, 415, 429, 503),
    }


def _health() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string", "const": "OK"}, "example": "OK"}}
    return {
        "tags": ["health"],
        "operationId": "health",
        "summary": "Health",
        "description": "The process answers.",
        "responses": {"200": {"description": "It does.", "content": content}} | _problems(405),
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): answer for status, answer in problems.documented(*statuses).items()}

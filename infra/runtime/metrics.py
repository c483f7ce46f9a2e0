"""Every metric of the platform, and the small HTTP server for processes without an API.

Names follow the Prometheus conventions: `kinolog_<area>_<what>_<unit>`, base units (seconds, bytes), counters end in
`_total`. Labels are bounded: never an id of a video, job or person. Only composition roots import this module; code
below them gets callbacks. `docs/reference/metrics.md` is generated from here.
"""

import asyncio
import hmac
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)
from prometheus_client.exposition import generate_latest

from events.errors import KinologError

REGISTRY = CollectorRegistry()
for _collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    REGISTRY.register(_collector)

FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Buckets for operations of milliseconds, in seconds."""
LONG_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Buckets for work on media, in seconds."""

# --- The log --------------------------------------------------------------------------------------------------------

LOG_APPEND_SECONDS = Histogram(
    "kinolog_log_append_seconds", "Time until a group of events was acknowledged.", buckets=FAST_S, registry=REGISTRY
)
LOG_APPEND_FAILURES = Counter("kinolog_log_append_failures", "Groups of events that were not acknowledged.", registry=REGISTRY)

# --- Projections and processes --------------------------------------------------------------------------------------

PROJECTION_LAG = Gauge(
    "kinolog_projection_lag_events",
    "Events between the position and the log's end.",
    ["projection", "topic", "partition"],
    registry=REGISTRY,
)
PROJECTION_FOLDED_EVENTS = Counter("kinolog_projection_folded_events", "Events folded.", ["projection"], registry=REGISTRY)
PROJECTION_BATCH_SECONDS = Histogram(
    "kinolog_projection_batch_seconds",
    "Time to fold and store one batch.",
    ["projection"],
    buckets=FAST_S,
    registry=REGISTRY,
)
PROJECTION_CONFLICTS = Counter(
    "kinolog_projection_conflicts",
    "Batches refused because another runner moved the position.",
    ["projection"],
    registry=REGISTRY,
)
PROJECTION_STANDING = Gauge(
    "kinolog_projection_standing_seconds",
    "Time for which a projection, process or effect has stood still at one position on the log; 0 when it goes on.",
    ["projection"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter("kinolog_dead_letters", "Records put on a dead-letter topic.", ["topic", "reader"], registry=REGISTRY)

WEBHOOK_ATTEMPTS = Counter(
    "kinolog_webhook_attempts", "Attempts to send a notice outside: delivered, refused or away.", ["outcome"], registry=REGISTRY
)

ARCHIVED_EVENTS = Counter("kinolog_archived_events", "Events written to the archive.", ["topic"], registry=REGISTRY)

FOLLOWER_POSITION = Gauge(
    "kinolog_follower_position_offset",
    "Position of this process on a topic that it follows in memory.",
    ["topic"],
    registry=REGISTRY,
)
FOLLOWER_LAG = Gauge("kinolog_follower_lag_events", "Events between that position and the log's end.", ["topic"], registry=REGISTRY)
FOLLOWER_PASSED_OVER = Gauge(
    "kinolog_follower_passed_over_events", "Records of followed topics that could not be read since the start.", registry=REGISTRY
)

# --- Dispatch -------------------------------------------------------------------------------------------------------

DISPATCH_QUEUED_JOBS = Gauge("kinolog_dispatch_queued_jobs", "Waiting jobs.", ["pool", "priority"], registry=REGISTRY)
DISPATCH_ACTIVE_JOBS = Gauge("kinolog_dispatch_active_jobs", "Jobs under a lease.", ["pool"], registry=REGISTRY)
DISPATCH_WAITING_CLAIMS = Gauge("kinolog_dispatch_waiting_claims", "Waiting claims of workers.", ["pool"], registry=REGISTRY)
DISPATCH_FACTS = Counter("kinolog_dispatch_facts", "Facts decided, by wire type.", ["type"], registry=REGISTRY)
DISPATCH_BATCH_SECONDS = Histogram(
    "kinolog_dispatch_batch_seconds",
    "Time to decide one batch and commit its transaction.",
    buckets=FAST_S,
    registry=REGISTRY,
)
JOBS_ENDED = Counter(
    "kinolog_jobs_ended",
    "Jobs that ended; result: completed, failed or cancelled.",
    ["kind", "result"],
    registry=REGISTRY,
)

# --- Workers --------------------------------------------------------------------------------------------------------

WORKER_ACTIVE_JOBS = Gauge("kinolog_worker_active_jobs", "Running jobs of this worker.", ["kind"], registry=REGISTRY)
WORKER_JOB_SECONDS = Histogram(
    "kinolog_worker_job_seconds",
    "Time from claim to report; result: completed, failed, released, fenced or cancelled.",
    ["kind", "result"],
    buckets=LONG_S,
    registry=REGISTRY,
)
WORKER_RUNG_SECONDS = Histogram(
    "kinolog_worker_rung_seconds",
    "Time to encode one chunk of a rung.",
    ["rung"],
    buckets=LONG_S,
    registry=REGISTRY,
)

# --- Hosts ----------------------------------------------------------------------------------------------------------

HOST_CPU = Gauge("kinolog_host_cpu_percent", "Use of this machine's cores since the sample before.", registry=REGISTRY)
HOST_MEMORY_USED = Gauge("kinolog_host_memory_used_bytes", "Memory in use on this machine.", registry=REGISTRY)
HOST_MEMORY_TOTAL = Gauge("kinolog_host_memory_total_bytes", "Memory of this machine.", registry=REGISTRY)
HOST_DISK_FREE = Gauge("kinolog_host_disk_free_bytes", "Free space of a file system.", ["mount"], registry=REGISTRY)
HOST_DISK_TOTAL = Gauge("kinolog_host_disk_total_bytes", "Size of a file system.", ["mount"], registry=REGISTRY)
_CARD = ["card", "model"]
HOST_GPU_BUSY = Gauge("kinolog_host_gpu_busy_percent", "Use of a graphics card.", _CARD, registry=REGISTRY)
HOST_GPU_ENCODER = Gauge("kinolog_host_gpu_encoder_percent", "Use of a card's encoders.", _CARD, registry=REGISTRY)
HOST_GPU_MEMORY_USED = Gauge("kinolog_host_gpu_memory_used_bytes", "Memory in use on a card.", _CARD, registry=REGISTRY)
HOST_GPU_MEMORY_TOTAL = Gauge("kinolog_host_gpu_memory_total_bytes", "Memory of a card.", _CARD, registry=REGISTRY)
HOST_GPU_TEMPERATURE = Gauge("kinolog_host_gpu_temperature_celsius", "Temperature of a card.", _CARD, registry=REGISTRY)

# --- Object store ---------------------------------------------------------------------------------------------------

STORE_SECONDS = Histogram(
    "kinolog_object_store_seconds",
    "Time of one operation on the object store.",
    ["operation"],
    buckets=FAST_S,
    registry=REGISTRY,
)
STORE_FAILURES = Counter("kinolog_object_store_failures", "Operations that failed.", ["operation"], registry=REGISTRY)

# --- Telemetry ------------------------------------------------------------------------------------------------------

TELEMETRY_EVENTS = Counter(
    "kinolog_telemetry_events", "Events that nodes reported; result: accepted or refused.", ["result"], registry=REGISTRY
)
TELEMETRY_WORDS_CAPPED = Gauge(
    "kinolog_telemetry_words_capped",
    "Words beyond the cap of their label, which insights call `other`.",
    ["label"],
    registry=REGISTRY,
)

# --- HTTP -----------------------------------------------------------------------------------------------------------

HTTP_REQUESTS = Counter(
    "kinolog_http_requests",
    "Requests answered; `route` is the template, never the path.",
    ["app", "method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "kinolog_http_request_seconds",
    "Time until an answer was complete.",
    ["app", "method", "route"],
    buckets=FAST_S,
    registry=REGISTRY,
)
HTTP_IN_FLIGHT = Gauge("kinolog_http_requests_in_flight", "Requests being answered.", ["app"], registry=REGISTRY)
HTTP_RESPONSE_BYTES = Counter("kinolog_http_response_bytes", "Bytes of bodies sent.", ["app", "route"], registry=REGISTRY)
HTTP_CONNECTIONS_ENDED = Counter(
    "kinolog_http_connections_ended",
    "Connections ended because of their clients; reason: slow (nothing came in time) or crowded (too many waited).",
    ["reason"],
    registry=REGISTRY,
)
LIVE_LISTENERS = Gauge("kinolog_live_listeners", "Listeners of live status.", registry=REGISTRY)

# --- Showing them ---------------------------------------------------------------------------------------------------

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = (
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
)
NO_METRICS = b'{"title":"send the bearer token of the setting metrics_token; without one only this machine sees the metrics"}'

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns {missing part: one sentence}; empty means ready."""

REQUEST_SECONDS_MAX = 5.0
REQUEST_BYTES_MAX = 16_384
CONNECTIONS_MAX = 64
"""Maximum connections; one more ends the oldest."""


def exposition() -> bytes:
    """Return every metric in the Prometheus text format; its type is CONTENT_TYPE."""
    return generate_latest(REGISTRY)


async def always_ready() -> Mapping[str, str]:
    """Nothing is missing."""
    return {}


class PortTaken(KinologError):
    """The port for health and metrics is in use."""


@asynccontextmanager
async def serve(
    port: int,
    ready: Ready = always_ready,
    *,
    warned: Ready = always_ready,
    host: str = "127.0.0.1",
    metrics_token: str = "",
) -> AsyncIterator[int]:
    """Answer GET /health, /ready and /metrics while the block runs; yields the port (0 chose one).

    Metrics require the token; without one in the settings, only this machine may read them.

    `/health` answers while the event loop turns. `/ready` is 503 with the missing parts, if any; it always has the warnings
    of `warned`, for a person. Raises PortTaken.
    """

    connections: dict[asyncio.StreamWriter, None] = {}

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = None
        if len(connections) > CONNECTIONS_MAX:
            next(iter(connections)).transport.abort()
        peer = writer.get_extra_info("peername") or ("",)
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(head, ready, warned, metrics_token, local=_is_loopback(peer[0])))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the client is gone, too slow or speaks no HTTP
        finally:
            connections.pop(writer, None)
            writer.close()

    try:
        server = await asyncio.start_server(on_connection, host, port, limit=REQUEST_BYTES_MAX)
    except OSError as error:
        raise PortTaken(
            f"port {port} of {host} cannot be had ({os.strerror(error.errno or 0)}); settings choose another (KINOLOG_…_PORT)"
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0].removeprefix("::ffff:")).is_loopback if address else False


def _may_read(head: bytes, token: str, *, local: bool) -> bool:
    """Return whether a request with this head may read the metrics."""
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    named = {name.strip().lower(): value.strip() for name, _, value in fields}
    if token:
        return hmac.compare_digest(named.get(b"authorization", b""), b"Bearer " + token.encode())
    return local and not {b"forwarded", b"x-forwarded-for"} & named.keys()


async def _answer(head: bytes, ready: Ready, warned: Ready, metrics_token: str, *, local: bool) -> bytes:
    """Return the whole HTTP response to a request's head."""
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
    if head.lower().count(b"\r\nhost:") != 1 and b" HTTP/1.0\r\n" not in head:
        status, media_type, body = "400 Bad Request", "application/json", b'{"title":"a request names one host"}'
    elif method not in (b"GET", b"HEAD"):
        status, media_type, body = (
            "405 Method Not Allowed",
            "application/json",
            b'{"title":"only GET is answered here"}',
        )
    elif path == b"/metrics" and not _may_read(head, metrics_token, local=local):
        status, media_type, body = "401 Unauthorized", "application/json", NO_METRICS
    elif path == b"/metrics":
        status, media_type, body = "200 OK", CONTENT_TYPE, exposition()
    elif path == b"/health":
        status, media_type, body = "200 OK", "application/json", b'{"status":"ok"}'
    elif path == b"/ready":
        missing = dict(await ready())
        status, media_type = ("503 Service Unavailable" if missing else "200 OK"), "application/json"
        said: dict[str, object] = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        if warnings := dict(await warned()):
            said["warnings"] = warnings
        body = json.dumps(said).encode()
    else:
        status, media_type, body = "404 Not Found", "application/json", b'{"title":"try /health, /ready or /metrics"}'
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{HEADERS}\r\n"
    return lines.encode() + (b"" if method == b"HEAD" else body)

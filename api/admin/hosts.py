"""For administrators: how machines fare; `/api/v1/analytics/system` as the predecessor has it, for one host."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from psycopg import AsyncConnection
from pydantic import BaseModel, Field

from api.admin.envelope import Answer, router
from api.admin.models import Page
from api.admin.services import Given, moment, reading
from api.services import Limit
from events.hosts import HostState
from events.text import Line
from projections.hosts import projection as hosts
from projections.hosts.projection import RINGS, SILENT_SAMPLES, Host, Span, Spread, Step

routes, as_before = APIRouter(tags=["hosts"]), router("hosts")
MIB = 2**20
MINUTE_S = 60
HostName = Annotated[Line, Field(max_length=255)]
OfHost = Annotated[HostName | None, Query(description="A host's id; the platform's own without it.")]


class SystemMetrics(BaseModel):
    """A host's figures as the predecessor names them: MB and GB are 2**20 and 2**30 bytes, the disk is the one with the data.

    Of several cards, the highest figure counts. None: not known.
    """

    host: str = Field(examples=["kinolog-1"])
    recorded_at: datetime
    cpu_percent: float | None = Field(examples=[37.5])
    memory_percent: float | None
    memory_used_mb: int | None
    gpu_encoder_percent: float | None
    gpu_memory_percent: float | None
    gpu_temp_celsius: float | None
    disk_total_gb: float | None
    disk_used_gb: float | None
    disk_free_gb: float | None
    active_streams: int | None
    active_transcodes: int | None


class HostShown(BaseModel):
    """A host and its latest sample; `silent`: none came for three minutes."""

    host: str = Field(examples=["kinolog-1"])
    name: str
    sampled_at: datetime
    silent: bool
    state: HostState
    active_streams: int | None
    active_transcodes: int | None


class Figure(BaseModel):
    """A figure over a span: the mean of its samples, the least and the most."""

    mean: float = Field(examples=[37.5])
    least: float
    most: float
    samples: int


class SpanShown(BaseModel):
    """The figures of a span of UTC, by name with its unit."""

    starts_at: datetime
    until: datetime
    figures: dict[str, Figure]


@as_before.get("/analytics/system")
async def system(given: Given, response: Response, host: OfHost = None) -> Answer[SystemMetrics | None]:
    """Show the latest sample of a host; none before the first one."""
    async with reading(given, response, "hosts") as connection:
        known = await _known(connection, host)
    if known is None:
        return Answer(data=None)
    return Answer(data=_metrics(known.host, known.sampled_at, hosts.figures_of(known)))


@as_before.get("/analytics/system/history")
async def system_history(
    given: Given,
    response: Response,
    hours: Annotated[int, Query(ge=1, le=168, description="Hours up to now.")] = 24,
    host: OfHost = None,
) -> Answer[list[SystemMetrics]]:
    """List the means of each minute of a host, oldest first."""
    async with reading(given, response, "hosts") as connection:
        known = await _known(connection, host)
        since = await moment(given, connection, "hosts") - timedelta(hours=hours)
        found = await hosts.series(connection, known.host, "minutes", since) if known else []
    means = [(span, {name: spread.total / spread.count for name, spread in span.figures.items()}) for span in found]
    return Answer(data=[_metrics(span.host, span.until, figures) for span, figures in means])


@routes.get("/api/hosts")
async def list_hosts(given: Given, response: Response, limit: Limit = 100) -> Page[HostShown]:
    """List machines with their latest samples, the platform's own first."""
    async with reading(given, response, "hosts") as connection:
        now = await moment(given, connection, "hosts")
        found = await hosts.latest(connection, limit)
    silent_since = now - timedelta(seconds=SILENT_SAMPLES * MINUTE_S)
    return Page(items=[_shown(one, silent=one.sampled_at < silent_since) for one in found], next=None)


@routes.get("/api/hosts/{host}/history")
async def host_history(
    given: Given,
    response: Response,
    host: Annotated[HostName, Path()],
    step: Annotated[Step, Query(description="minutes of a week, or hours or days of a year.")] = "hours",
    days: Annotated[int, Query(ge=1, le=366, description="Days up to now.")] = 7,
) -> Page[SpanShown]:
    """List the means of a host by minute, hour or day, oldest first."""
    async with reading(given, response, "hosts") as connection:
        now = await moment(given, connection, "hosts")
        since = now - min(timedelta(days=days), RINGS[step].length * RINGS[step].slots)
        found = await hosts.series(connection, host, step, since)
    return Page(items=[_span(one) for one in found], next=None)


async def _known(connection: AsyncConnection[Any], host: str | None) -> Host | None:
    """Return a host, or the platform's own; None when it never sent a sample."""
    return await hosts.by_id(connection, host) if host is not None else next(iter(await hosts.latest(connection, 1)), None)


def _metrics(host: str, recorded_at: datetime, figures: dict[str, float]) -> SystemMetrics:
    def whole(name: str, unit: int = 1) -> int | None:
        return None if (value := figures.get(name)) is None else round(value / unit)

    return SystemMetrics(
        host=host,
        recorded_at=recorded_at,
        cpu_percent=rounded(figures.get("cpu_percent")),
        memory_percent=rounded(figures.get("memory_percent")),
        memory_used_mb=whole("memory_used_bytes", MIB),
        gpu_encoder_percent=rounded(figures.get("gpu_encoder_percent")),
        gpu_memory_percent=rounded(figures.get("gpu_memory_percent")),
        gpu_temp_celsius=rounded(figures.get("gpu_temp_celsius")),
        disk_total_gb=gib(figures.get("disk_total_bytes")),
        disk_used_gb=gib(figures.get("disk_used_bytes")),
        disk_free_gb=gib(figures.get("disk_free_bytes")),
        active_streams=whole("active_streams"),
        active_transcodes=whole("active_transcodes"),
    )


def rounded(value: float | None) -> float | None:
    """Return a figure with one decimal."""
    return None if value is None else round(value, 1)


def gib(value_bytes: float | None) -> float | None:
    """Return bytes as 2**30 bytes, with two decimals."""
    return None if value_bytes is None else round(value_bytes / 2**30, 2)


def _shown(host: Host, *, silent: bool) -> HostShown:
    return HostShown(
        host=host.host,
        name=host.name,
        sampled_at=host.sampled_at,
        silent=silent,
        state=host.state,
        active_streams=host.active_streams,
        active_transcodes=host.active_transcodes,
    )


def _span(span: Span) -> SpanShown:
    return SpanShown(
        starts_at=span.starts_at, until=span.until, figures={name: _figure(spread) for name, spread in span.figures.items()}
    )


def _figure(spread: Spread) -> Figure:
    return Figure(mean=spread.total / spread.count, least=spread.least, most=spread.most, samples=spread.count)


routes.include_router(as_before)

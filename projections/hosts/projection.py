"""Hosts: the latest sample of each, and the means of minutes, hours and days; folded from topic `hosts`.

Spans lie in rings: the row of a minute is used again after a week, that of an hour or a day after a year. So a host has a bounded
number of rows without a clock that deletes old ones, and readers leave out the rows that are older.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.envelope import Recorded
from events.hosts import HostSampled, HostState
from events.topics import HOSTS
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load

_SQL = load(Path(__file__).with_name("projection.sql"))
Step = Literal["minutes", "hours", "days"]


class Ring(NamedTuple):
    """Spans of one length, and their number until a row is used again."""

    length: timedelta
    slots: int


RINGS: Mapping[Step, Ring] = {
    "minutes": Ring(timedelta(minutes=1), 7 * 24 * 60),
    "hours": Ring(timedelta(hours=1), 366 * 24),
    "days": Ring(timedelta(days=1), 366),
}
SILENT_SAMPLES = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@table_row
class Host:
    """The latest sample of a host. Active streams and transcodes are those of the latest sample that had them."""

    host: str
    name: str
    sampled_at: datetime
    state: HostState
    active_streams: int | None = None
    active_transcodes: int | None = None


@table_row
class Spread:
    """A figure over some samples."""

    count: int
    total: float
    least: float
    most: float


@table_row
class Span:
    """The samples of a host in a minute, hour or day of UTC that begins at `starts_at`, up to `until`."""

    host: str
    slot: int
    starts_at: datetime
    until: datetime
    figures: Mapping[str, Spread] = field(default_factory=dict)


def figures_of(sample: HostSampled | Host) -> dict[str, float]:
    """Return the figures of a sample: percent, bytes, degrees Celsius, numbers; of several cards, the highest."""
    state = sample.state
    found: dict[str, float | None] = {
        "cpu_percent": state.cpu_percent,
        "memory_used_bytes": state.memory_used_bytes,
        "memory_percent": 100 * state.memory_used_bytes / state.memory_total_bytes if state.memory_total_bytes else None,
        "gpu_encoder_percent": _highest([gpu.encoder_percent for gpu in state.gpus]),
        "gpu_memory_percent": _highest([_share(gpu.memory_used_bytes, gpu.memory_total_bytes) for gpu in state.gpus]),
        "gpu_temp_celsius": _highest([gpu.temperature_celsius for gpu in state.gpus]),
        "active_streams": sample.active_streams,
        "active_transcodes": sample.active_transcodes,
    }
    for disk in state.disks[:1]:
        found |= {"disk_total_bytes": disk.total_bytes, "disk_used_bytes": disk.used_bytes, "disk_free_bytes": disk.free_bytes}
    return {name: float(value) for name, value in found.items() if value is not None}


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else min(100 * part / whole, 100.0)


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def host_keys(recorded: Recorded[HostSampled]) -> Collection[tuple[str]]:
    """Return the key of the host."""
    return ((recorded.envelope.data.host,),)


def evolve_host(row: Host | None, recorded: Recorded[HostSampled]) -> Host:
    """Keep the latest sample; an older or repeated one changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if row is not None and time <= row.sampled_at:
        return row
    streams, transcodes = event.active_streams, event.active_transcodes
    if row is not None:
        streams = row.active_streams if streams is None else streams
        transcodes = row.active_transcodes if transcodes is None else transcodes
    return Host(event.host, event.name, time, event.state, streams, transcodes)


def span_keys(recorded: Recorded[HostSampled], ring: Ring) -> Collection[tuple[str, int]]:
    """Return the key of the span's row."""
    return ((recorded.envelope.data.host, (recorded.envelope.time - _EPOCH) // ring.length % ring.slots),)


def evolve_span(row: Span | None, recorded: Recorded[HostSampled], ring: Ring) -> Span:
    """Add a sample to its span; one that is not later than the last of the span, or of an older one, changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    index = (time - _EPOCH) // ring.length
    starts_at = _EPOCH + index * ring.length
    if row is not None and (time <= row.until or starts_at < row.starts_at):
        return row
    if row is None or row.starts_at < starts_at:
        row = Span(event.host, index % ring.slots, starts_at, time)
    figures = dict(row.figures)
    for name, value in figures_of(event).items():
        before = figures.get(name)
        figures[name] = Spread(1, value, value, value) if before is None else _widened(before, value)
    return replace(row, until=time, figures=figures)


def _widened(spread: Spread, value: float) -> Spread:
    return Spread(spread.count + 1, spread.total + value, min(spread.least, value), max(spread.most, value))


def _spans(name: Step) -> Table[Span]:
    ring = RINGS[name]
    return Table(name, Span, ("host", "slot"), partial(span_keys, ring=ring), partial(evolve_span, ring=ring))


PROJECTION = Projection(
    "hosts",
    (HOSTS,),
    (Table("hosts", Host, ("host",), host_keys, evolve_host), *map(_spans, RINGS)),
    _SQL["create"],
    partitioned=True,
)

# --- readers --------------------------------------------------------------------------------------------------------

_HOSTS = TypeAdapter(list[Host])
_SPANS = TypeAdapter(list[Span])


async def latest(connection: AsyncConnection[Any], limit: int) -> Sequence[Host]:
    """Return hosts, the one with active streams known first, then by their latest sample."""
    return await _rows(connection, "latest", _HOSTS.validate_json, limit=limit)


async def by_id(connection: AsyncConnection[Any], host: str) -> Host | None:
    """Return a host; None when it never sent a sample."""
    found: list[Host] = await _rows(connection, "by_id", _HOSTS.validate_json, host=host)
    return found[0] if found else None


async def series(connection: AsyncConnection[Any], host: str, step: Step, since: datetime) -> Sequence[Span]:
    """Return a host's spans from `since` on, at most as many as the ring has, in order."""
    return await _rows(connection, step, _SPANS.validate_json, host=host, since=since)


async def _rows(connection: AsyncConnection[Any], name: str, read: Callable[[str], list[Any]], **values: object) -> list[Any]:
    cursor = await connection.execute(_SQL[name], values)
    found = await cursor.fetchone()
    return read(found[0]) if found else []

"""Figures of viewing, each defined once: pages, the predecessor's routes and Prometheus call these functions."""

from collections.abc import Sequence
from dataclasses import KW_ONLY
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter

from events.streams import Playback, PlayState
from projections.folding.fold import table_row
from projections.folding.queries import load
from projections.folding.runner import as_served
from projections.streams.plays import Figures
from projections.streams.projection import PROJECTION
from projections.streams.rules import Rules, rules_of
from projections.streams.sessions import End

LIMIT_MAX = 500
_SQL = load(Path(__file__).with_name("figures.sql"))


@table_row
class DayFigures(Figures):
    """The sums of a local day."""

    _: KW_ONLY
    day: date


class Watched(BaseModel):
    """One session, with its video's title. `active`: it has shown a sign of life lately, and has not ended.

    A session that has shown none for too long has ended at its last one (`end` is expired), also before an event says so.
    """

    session_id: str
    viewer_id: str
    video_id: str
    title: str | None
    playback: Playback
    state: PlayState
    quality: str | None
    codec: str | None
    resolution: str | None
    container: str | None
    client: str | None
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    end: End | None
    fault: str | None
    position_ms: int
    furthest_ms: int
    media_ms: int | None
    watched_ms: int
    bytes_served: int
    bytes_redirected: int
    start_up_ms: int | None
    stalled_ms: int
    switches: int
    errors: int
    active: bool

    def completed(self, rules: Rules) -> bool:
        """Return whether it came near enough to the end."""
        return bool(self.media_ms) and self.furthest_ms * 100 >= (self.media_ms or 0) * rules.completed_percent


class ViewerFigures(BaseModel):
    """The sums of one viewer."""

    viewer_id: str
    plays: int
    watched_ms: int
    last_day: date


_WATCHED = TypeAdapter(list[Watched])
_DAYS = TypeAdapter(list[DayFigures])
_VIEWERS = TypeAdapter(list[ViewerFigures])


async def rules(connection: AsyncConnection[Any]) -> Rules:
    """Return the rules of the figures, those of the version that serves."""
    return rules_of(dict((await as_served(connection, PROJECTION)).rules))


async def of_days(connection: AsyncConnection[Any], first: date, last: date) -> Sequence[DayFigures]:
    """Return the sums of each day from `first` to `last` (incl.) on which something was watched, in order."""
    return await _rows(connection, "days", _DAYS, first=first, last=last)


async def active(connection: AsyncConnection[Any], now: datetime, rules: Rules) -> int:
    """Return the number of active sessions."""
    cursor = await connection.execute(_SQL["active"], {"since": _alive_since(now, rules), "now": now})
    found = await cursor.fetchone()
    return int(found[0]) if found else 0


async def sessions(
    connection: AsyncConnection[Any],
    now: datetime,
    rules: Rules,
    *,
    limit: int,
    only_active: bool = False,
    viewer_id: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
) -> Sequence[Watched]:
    """Return sessions, newest first."""
    about = {"viewer_id": viewer_id, "since": since, "before": before, "only_active": only_active, "limit": limit}
    return await _rows(connection, "sessions", _WATCHED, alive_since=_alive_since(now, rules), now=now, **about)


async def has_watched(connection: AsyncConnection[Any], viewer_id: str) -> bool:
    """Return whether a viewer has a session."""
    cursor = await connection.execute(_SQL["has_watched"], {"viewer_id": viewer_id})
    return await cursor.fetchone() is not None


async def viewers(connection: AsyncConnection[Any], limit: int) -> Sequence[ViewerFigures]:
    """Return the viewers with the most time watched."""
    return await _rows(connection, "viewers", _VIEWERS, limit=limit)


def _alive_since(now: datetime, rules: Rules) -> datetime:
    return now - timedelta(milliseconds=rules.expiry_ms)


async def _rows(connection: AsyncConnection[Any], name: str, rows: TypeAdapter[list[Any]], **values: object) -> list[Any]:
    cursor = await connection.execute(_SQL[name], values)
    found = await cursor.fetchone()
    return rows.validate_json(found[0]) if found else []

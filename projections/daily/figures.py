"""Daily figures, each defined once: as they are known now, and as they were when the day was closed."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter

from events.days import DayFigures
from projections.daily.projection import Closing
from projections.folding.positions import snapshot
from projections.folding.queries import load
from projections.streams import figures as streams
from projections.streams.rules import day_of

CLOSED_AFTER = timedelta(minutes=5)
"""Time after midnight at which a day is closed."""
AT_ONCE_MAX = 31
"""Days that are closed at once, after a time without a processor."""
SOURCES = ("daily", "streams")
"""Projections that have the figures."""
_SQL = load(Path(__file__).with_name("figures.sql"))


class DayStat(BaseModel):
    """A local day as it is known now, and as it was closed; `failed_streams` ended by a fault of their player."""

    day: date
    figures: DayFigures
    completed_plays: int
    failed_streams: int
    closing: Closing | None

    @property
    def restated(self) -> bool:
        """Whether events that came late, or other rules, have changed the day since it was first closed."""
        return self.closing is not None and self.closing.figures != self.figures


class Counted(NamedTuple):
    """A day, the zone in which it is one, and the positions of the figures, by projection."""

    stat: DayStat
    zone: str
    positions: dict[str, str]


_STATS = TypeAdapter(list[DayStat])


async def of_days(connection: AsyncConnection[Any], first: date, last: date, *, whole: bool = False) -> Sequence[DayStat]:
    """Return the days from `first` to `last` (incl.) on which something happened, in order; with `whole`, every day."""
    cursor = await connection.execute(_SQL["days"], {"first": first, "last": last, "whole": whole})
    found = await cursor.fetchone()
    return _STATS.validate_json(found[0]) if found else []


async def count(connection: AsyncConnection[Any], day: date) -> Counted:
    """Count a day, all from one moment of the database."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (stat,) = await of_days(connection, day, day, whole=True)
        positions = {name: (await snapshot(connection, name)).header() for name in SOURCES}
        return Counted(stat, (await streams.rules(connection)).zone, positions)


async def due(connection: AsyncConnection[Any], now: datetime) -> Sequence[date]:
    """Return the days that are over and not closed yet, in order; without any closed day, yesterday."""
    zone = (await streams.rules(connection)).zone
    found = await (await connection.execute(_SQL["last_closed"], {"zone": zone})).fetchone()
    return unclosed(day_of(now - CLOSED_AFTER, zone) - timedelta(days=1), found[0] if found else None)


def unclosed(over: date, last: date | None) -> Sequence[date]:
    """Return at most AT_ONCE_MAX days after the last closed one, up to the last that is over. Pure."""
    first = over if last is None else last + timedelta(days=1)
    return [first + timedelta(days=n) for n in range(min((over - first).days + 1, AT_ONCE_MAX))]

"""The rules by which streams become plays and days. Another value restates all of history: `kinolog rebuild streams`.

A version of the projection keeps the rules with which it was made, and readers ask for those of the version that they read.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

EDGE = timedelta(days=2)
"""Distance from the calendar's ends at which no zone's day leaves it."""


class Rules(NamedTuple):
    """The rules. `zone` is where days begin at midnight."""

    zone: str = "UTC"
    expiry_ms: int = 90_000
    """Longest time between two signs of life of a stream: three heartbeats."""
    watched_min_ms: int = 5_000
    """Shortest time watched that makes a play; half of the video when that is shorter."""
    back_max_ms: int = 15_000
    """A stream that begins at most this far before the end of the last one goes on with its play."""
    completed_percent: int = 90


def rules_of(values: Mapping[str, Any]) -> Rules:
    """Return the rules with these values, and the defaults of others. Names that are no rules are left out."""
    return Rules(**{name: value for name, value in values.items() if name in Rules._fields})


def day_of(moment: datetime, zone: str) -> date:
    """Return the local day of a moment."""
    return _inside(moment).astimezone(_zone(zone)).date()


def midnight_after(moment: datetime, zone: str) -> datetime:
    """Return the beginning of the next local day, in UTC."""
    return midnight(day_of(moment, zone) + timedelta(days=1), zone)


def midnight(day: date, zone: str) -> datetime:
    """Return the beginning of a local day, in UTC."""
    return datetime.combine(day, time(), _zone(zone)).astimezone(UTC)


def by_day(amount: int, start: datetime, end: datetime, zone: str) -> Iterator[tuple[date, int]]:
    """Split an amount that accrued evenly from `start` to `end` over the local days; the parts add up to it."""
    start, end = _inside(start), _inside(end)
    while (night := midnight_after(start, zone)) < end:
        part = round(amount * ((night - start) / (end - start)))
        yield day_of(start, zone), part
        amount, start = amount - part, night
    yield day_of(start, zone), amount


def _inside(moment: datetime) -> datetime:
    return min(max(moment, datetime.min.replace(tzinfo=UTC) + EDGE), datetime.max.replace(tzinfo=UTC) - EDGE)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)

"""The rules by which streams become plays and days. Another value restates all of history: `kinolog rebuild streams`.

A version of the projection keeps the rules with which it was made, and readers ask for those of the version that they read.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

EDGE = timedelta(days=5)
"""Distance from the calendar's ends at which no zone's days around it leave it."""
_FIRST, _LAST = (datetime.min.replace(tzinfo=UTC) + EDGE, datetime.max.replace(tzinfo=UTC) - EDGE)


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


class Day(NamedTuple):
    """A local day, from its midnight to the next one, in UTC."""

    begin: datetime
    end: datetime
    day: date


def day_of(moment: datetime, zone: str) -> date:
    """Return the local day of a moment."""
    return _around(_inside(moment), zone).day


def midnight(day: date, zone: str) -> datetime:
    """Return the beginning of a local day, in UTC."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def by_day(amount: int, start: datetime, end: datetime, zone: str) -> Iterator[tuple[date, int]]:
    """Split an amount that accrued evenly from `start` to `end` over the local days; the parts add up to it."""
    start, end = _inside(start), _inside(end)
    while (local := _around(start, zone)).end < end:
        part = round(amount * ((local.end - start) / (end - start)))
        yield local.day, part
        amount, start = amount - part, local.end
    yield local.day, amount


def _inside(moment: datetime) -> datetime:
    return min(max(moment, _FIRST), _LAST)


def _around(moment: datetime, zone: str) -> Day:
    return next(day for day in _touched(moment.astimezone(UTC).date(), zone) if day.begin <= moment)


@lru_cache(maxsize=4096)
def _touched(day: date, zone: str) -> tuple[Day, ...]:
    """Return the local days that touch a day of UTC, the last one first. Kept: a fold asks for the same few days all the time."""
    days = [day + timedelta(days=number) for number in range(3, -3, -1)]
    return tuple(Day(midnight(one, zone), midnight(after, zone), one) for after, one in pairwise(days))

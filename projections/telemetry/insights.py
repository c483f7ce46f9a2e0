"""What is read from the telemetry projection: the predecessor's insights, and groups of outcomes to reckon with.

Words (names of hardware, encoders, codecs, resolutions, versions, reasons) are capped here and not at ingest: which ones
are common is known only afterwards, so a cap on the way in would depend on the order of events, and what it threw together
could never be told apart again. The most common words stay; all others are read as OTHER. So a flood of made-up words
changes one line, and no row of anybody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from pydantic import TypeAdapter

from projections.folding.queries import load

OTHER = "other"
"""What a word beyond the cap is called."""
BOARD_MAX, STABILITY_MAX = 50, 20
GROUPS_MAX = 10_000
Label = Literal["day", "app_version", "hardware", "encoder", "codec", "resolution"]
_SQL = load(Path(__file__).with_name("projection.sql"))


@dataclass(frozen=True, slots=True)
class Insights:
    """What the predecessor showed: its document, and how many words are read as OTHER, by label."""

    document: bytes
    capped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Caps:
    """How many words of a label are told apart: names of hardware, and those of each other label."""

    hardware_max: int
    words_max: int

    def of(self, label: str) -> int:
        """Return the cap of a label."""
        return self.hardware_max if label == "hardware" else self.words_max


@dataclass(frozen=True, slots=True)
class Selection:
    """Which outcomes; None is all of them. Days are UTC, both inclusive."""

    hardware: str | None = None
    encoder: str | None = None
    codec: str | None = None
    resolution: str | None = None
    app_version: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(slots=True)
class Group:
    """Outcomes added up. A label is empty when it was not asked for, or not known. See `telemetry.Outcome` for the sums."""

    day: str
    app_version: str
    hardware: str
    encoder: str
    codec: str
    resolution: str
    started: int
    finished: int
    succeeded: int
    failed: int
    speed_count: int
    speed_sum: Decimal
    speed_squares: Decimal
    speed_bins: dict[str, int]
    reduction_count: int
    reduction_sum: Decimal

    @property
    def jobs(self) -> int:
        """Jobs counted once: each is told when it starts and when it ends, under ids of their own, so the larger count."""
        return max(self.started, self.finished)


UNCAPPED = Caps(10**9, 10**9)
_ZERO = Decimal(0)
NOTHING = Group("", "", "", "", "", "", 0, 0, 0, 0, 0, _ZERO, _ZERO, {}, 0, _ZERO)
"""No outcome at all."""
_GROUP = TypeAdapter(Group)


async def insights(connection: AsyncConnection[Any], caps: Caps) -> Insights:
    """Return the predecessor's insights. Ties have an order of their own, so that equal rows make equal bytes."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_SQL["board"], {**asdict(caps), "other": OTHER, "limit": BOARD_MAX})
    leaderboard = await cursor.fetchall()
    await cursor.execute(_SQL["stability"], {**asdict(caps), "other": OTHER, "limit": STABILITY_MAX})
    stability = await cursor.fetchall()
    found = await (await connection.execute(_SQL["coverage"])).fetchall()
    words = {label: (events, unique) for label, events, unique in found}
    total, unique = words.get("hardware", (0, 0))
    document = {
        "schema": 1,
        "coverage": {"total_jobs": total, "unique_hardware": unique},
        "leaderboard": leaderboard,
        "stability": stability,
    }
    return Insights(orjson.dumps(document), {label: max(0, unique - caps.of(label)) for label, (_, unique) in words.items()})


async def groups(
    connection: AsyncConnection[Any], selection: Selection, by: Sequence[Label], caps: Caps, finished_min: int = 0
) -> list[Group]:
    """Return the selection's outcomes by these labels, those with most finished jobs first; at most GROUPS_MAX.

    Groups with fewer than `finished_min` finished jobs are left out.
    """
    values = {**_values(selection, caps), "by": list(by), "finished_min": finished_min}
    cursor = await connection.execute(_SQL["groups"], values)
    return [_GROUP.validate_json(text) for (text,) in await cursor.fetchall()]


async def reasons(connection: AsyncConnection[Any], selection: Selection, caps: Caps) -> list[tuple[str, str, int]]:
    """Return (encoder, reason, count) of the selection's failed jobs, the most frequent first; at most GROUPS_MAX."""
    cursor = await connection.execute(_SQL["reasons"], _values(selection, caps))
    return await cursor.fetchall()


def _values(selection: Selection, caps: Caps) -> dict[str, Any]:
    return {**asdict(selection), **asdict(caps), "other": OTHER, "limit": GROUPS_MAX}

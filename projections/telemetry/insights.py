"""Queries of the telemetry projection: the predecessor's insights, and groups of outcomes for statistics.

Caps on words (names of hardware, encoders, codecs, resolutions, versions, reasons) apply here, not at ingest. Only
afterwards is it known which words are common: a cap at ingest would depend on the order of events, and merge words for
ever. Readers see the most common words; all others as OTHER. So a flood of invented words changes one line and no other.
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
"""Stands for every word beyond the cap."""
BOARD_MAX, STABILITY_MAX = 50, 20
GROUPS_MAX = 10_000
Label = Literal["day", "app_version", "hardware", "encoder", "codec", "resolution"]
_SQL = load(Path(__file__).with_name("projection.sql"))


@dataclass(frozen=True, slots=True)
class Insights:
    """The predecessor's document, and the number of words read as OTHER, by label."""

    document: bytes
    capped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Caps:
    """Maximum number of distinct words: for names of hardware, and for each other label."""

    hardware_max: int
    words_max: int

    def of(self, label: str) -> int:
        """Return the cap of a label."""
        return self.hardware_max if label == "hardware" else self.words_max


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects outcomes; None selects all. Days are UTC, both inclusive."""

    hardware: str | None = None
    encoder: str | None = None
    codec: str | None = None
    resolution: str | None = None
    app_version: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(slots=True)
class Group:
    """Summed outcomes. A label is empty when it was not requested or is unknown. `Outcome` explains the sums."""

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
        """Number of jobs. A job is reported at its start and at its end under different ids: the larger count holds."""
        return max(self.started, self.finished)


UNCAPPED = Caps(10**9, 10**9)
_ZERO = Decimal(0)
NOTHING = Group("", "", "", "", "", "", 0, 0, 0, 0, 0, _ZERO, _ZERO, {}, 0, _ZERO)
"""No outcome at all."""
_GROUP = TypeAdapter(Group)


async def insights(connection: AsyncConnection[Any], caps: Caps) -> Insights:
    """Return the predecessor's insights. The order of ties is fixed, so equal rows make equal bytes."""
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
    """Return the selection's outcomes grouped by these labels, most finished jobs first; at most GROUPS_MAX.

    Omits groups with fewer than `finished_min` finished jobs.
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

"""A projection's tables as dictionaries: the fold without a database, to hold the real runner against.

tables = folded(catalog.PROJECTION, records)
tables["videos"][(video_id,)].status
"""

from collections.abc import Iterable
from typing import Any

from events.envelope import Event, Recorded
from projections.fold import Key, Projection

Tables = dict[str, dict[Key, Any]]


def folded(projection: Projection, records: Iterable[Recorded[Event]], tables: Tables | None = None) -> Tables:
    """Fold records into `tables` (changed in place; empty ones when None) and return them. Other topics are left out."""
    topics = {topic.name for topic in projection.topics}
    rows: Tables = tables if tables is not None else {table.name: {} for table in projection.tables}
    for record in records:
        if record.topic not in topics:
            continue
        for table in projection.tables:
            for key in table.keys_of(record):
                after = table.evolve(rows[table.name].get(key), record)
                if after is None:
                    rows[table.name].pop(key, None)
                else:
                    assert tuple(getattr(after, column) for column in table.key) == tuple(key), "a row left its key"
                    rows[table.name][key] = after
    return rows


def history(log: Iterable[Recorded[Event]]) -> list[Recorded[Event]]:
    """Return the records as a log would have them: offsets counted up per partition, in the order given."""
    ends: dict[tuple[str, int], int] = {}
    placed = []
    for record in log:
        place = record.topic, record.partition
        placed.append(record._replace(offset=ends.get(place, 0)))
        ends[place] = ends.get(place, 0) + 1
    return placed

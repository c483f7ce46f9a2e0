"""A projection's tables as dictionaries: the fold without a database, to hold the real runner against.

tables = folded(catalog.PROJECTION, records)
tables["videos"][(video_id,)].status
"""

from collections.abc import Iterable, Sequence, Set
from typing import Any

from events.envelope import Event, Recorded
from projections.folding.fold import Change, Gathered, Key, Projection
from projections.folding.runner import changes, fold, touches

Tables = dict[str, dict[Key, Any]]


def folded(projection: Projection, records: Iterable[Recorded[Event]], tables: Tables | None = None) -> Tables:
    """Fold records into `tables` (which it changes; empty ones when None) and return them. Other topics are left out."""
    rows: Tables = tables if tables is not None else {table.name: {} for table in projection.tables}
    for gathered in (item for record in folded_records(projection, records) for item in items_of(projection, [record])):
        items: dict[str | None, list[Any]] = {None: [gathered]} | {table.name: [] for table in projection.tables}
        for table in projection.tables:
            for keys, item in touches(table, items[table.of]):
                for key in keys:
                    before = rows[table.name].get(key)
                    after = table.evolve(before, item)
                    if after is before:
                        continue
                    items[table.name].append(Change(before, after))
                    if after is None:
                        rows[table.name].pop(key, None)
                    else:
                        assert tuple(getattr(after, column) for column in table.key) == tuple(key), "a row left its key"
                        rows[table.name][key] = after
    return rows


def items_of(projection: Projection, records: Sequence[Recorded[Event]]) -> Sequence[Any]:
    """Return what the tables fold: the records, or what is gathered of them."""
    gathered = gather(projection, records)
    return records if gathered is None else gathered.items()


def gather(projection: Projection, records: Sequence[Recorded[Event]]) -> Gathered | None:
    """Gather records as their reader does; None where nothing gathers."""
    if projection.gathering is None:
        return None

    async def without(ids: Set[str]) -> Gathered:
        rest = gather(projection, [record for record in records if record.envelope.id not in ids])
        assert rest is not None
        return rest

    gathered = Gathered(projection.gathering(), without)
    gathered.add([record.envelope for record in records])
    return gathered


def folded_records(projection: Projection, records: Iterable[Recorded[Event]]) -> list[Recorded[Event]]:
    """Return the records that a projection folds: those of its topics; each id once when it remembers what it has seen."""
    topics = {topic.name for topic in projection.topics}
    found = [record for record in records if record.topic in topics]
    if projection.seen is None:
        return found
    return list({record.envelope.id: record for record in reversed(found)}.values())[::-1]


def history(log: Iterable[Recorded[Event]]) -> list[Recorded[Event]]:
    """Return the records as a log would have them: offsets counted up per partition, in the order given."""
    ends: dict[tuple[str, int], int] = {}
    found = []
    for record in log:
        partition = record.topic, record.partition
        found.append(record._replace(offset=ends.get(partition, 0)))
        ends[partition] = ends.get(partition, 0) + 1
    return found


def in_batches(projection: Projection, log: list[Recorded[Event]], cuts: list[int]) -> Tables:
    """Fold as the runner does: a batch at a time, rows fetched before and stored after it."""
    tables: Tables = {table.name: {} for table in projection.tables}
    first = {id(record) for record in folded_records(projection, log)}
    for start, stop in zip(cuts, cuts[1:], strict=False):
        items: dict[str | None, Sequence[Any]] = {None: items_of(projection, [one for one in log[start:stop] if id(one) in first])}
        for table in projection.tables:
            stored = tables[table.name]
            touching = touches(table, items[table.of])
            rows = {key: stored.get(key) for keys, _ in touching for key in keys}
            changed = fold(table, rows, touching)
            items[table.name] = changes(rows, changed)
            for key, row in changed.items():
                if row is None:
                    del stored[key]
                else:
                    stored[key] = row
    return tables

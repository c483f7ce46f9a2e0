"""Stored versions of each projection: the positions of each, whether it has folded every record, and its digest."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection

from events.topics import Partition
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.log import stretches
from projections.folding.runner import Runner, as_made
from projections.folding.store import SQL, digest_of
from projections.history.parquet import read_segment
from projections.history.source import History

READ_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a projection.

    `serves`: readers see this version. `serves_from`: when it began to serve, kept for earlier versions as well.
    `positions`: next offsets by `topic/partition`; `lag_events`: records from there to the end.
    `contiguous`: it has folded as many records as history holds before its positions; None when the start of history is gone.
    `tables`: SHA-256 by table; `digest`: SHA-256 over them; None when the version was made for other tables than this code's.
    `codes`: digests of all code that has folded into it, the latest last; None when it predates the recording of codes.
    `other_code`: code other than the running one has folded into it. `rules`: the values with which its folds are made.
    """

    projection: str
    version: int
    serves: bool
    serves_from: datetime | None
    events: int
    lag_events: int
    newest_event: datetime | None
    contiguous: bool | None
    digest: str | None
    tables: dict[str, str]
    positions: dict[str, int]
    codes: list[str] | None
    other_code: bool
    rules: dict[str, str | int]


async def list_versions(projections: Collection[Projection], connection: AsyncConnection[Any], history: History) -> list[Version]:
    """Return all versions of these projections, in their order. Reads their tables and the records not yet archived."""
    await connection.execute(SQL["create"])  # does nothing when it exists
    stored = [one for projection in projections for one in await _stored(projection, connection)]
    partitions = {partition for one in stored for partition in one.positions}
    counts = await _Counts.of(history, partitions)  # read after the positions, so that none is past the end
    return [await _described(one, counts) for one in stored]


@dataclass(frozen=True)
class _Stored:
    """A version as PostgreSQL has it; `positions` are (next offset, count of records)."""

    name: str
    version: int
    serves: bool
    serves_from: datetime | None
    newest_event: datetime | None
    positions: dict[Partition, tuple[int, int]]
    tables: dict[str, str]
    codes: list[str] | None
    other_code: bool
    rules: dict[str, str | int]


async def _stored(projection: Projection, connection: AsyncConnection[Any]) -> list[_Stored]:
    """Return a projection's versions, each read in one snapshot, so that positions and digest belong together."""
    found = []
    active = await (await connection.execute(SQL["active"], {"name": projection.name})).fetchone()
    versions = await (await connection.execute(SQL["versions"], {"name": projection.name})).fetchall()
    for number, made_for, serves_from, codes in versions:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor = await connection.execute(SQL["positions"], {"name": projection.name, "version": number})
            rows = await cursor.fetchall()
            same = made_for == digest_of(projection)
            made = await as_made(connection, projection, number)
            tables = await Runner(made, number, live=False).digest(connection) if same else {}
        newest = max((row[4] for row in rows if row[4] is not None), default=None)
        positions = {(topic, partition): (position, folded) for topic, partition, position, folded, _ in rows}
        serves = active is not None and number == active[0]
        other = codes != [code_of(made)]
        found.append(
            _Stored(projection.name, number, serves, serves_from, newest, positions, tables, codes, other, dict(made.rules))
        )
    return found


async def _described(stored: _Stored, counts: "_Counts") -> Version:
    before = {partition: await counts.before(partition, position) for partition, (position, _) in stored.positions.items()}
    gapless = all(folded == before[partition] for partition, (_, folded) in stored.positions.items())
    return Version(
        projection=stored.name,
        version=stored.version,
        serves=stored.serves,
        serves_from=stored.serves_from,
        events=sum(folded for _, folded in stored.positions.values()),
        lag_events=sum(counts.all(partition) - count for partition, count in before.items()),
        newest_event=stored.newest_event,
        contiguous=gapless if counts.whole(before) else None,
        digest=sha256(repr(sorted(stored.tables.items())).encode()).hexdigest() if stored.tables else None,
        tables=stored.tables,
        positions={f"{topic}/{partition}": position for (topic, partition), (position, _) in stored.positions.items()},
        codes=stored.codes,
        other_code=stored.other_code,
        rules=stored.rules,
    )


@dataclass(frozen=True)
class _Counts:
    """Counts records of history before a position: from the manifest for files, from offsets that were read for the rest.

    `begins` are the positions where the offsets in `tail` begin.
    """

    history: History
    begins: Mapping[Partition, int]
    tail: Mapping[Partition, Sequence[int]]

    @classmethod
    async def of(cls, history: History, partitions: Collection[Partition]) -> "_Counts":
        """Read the offsets of records not yet archived, up to the present end."""
        starts, ends = await history.log.starts(partitions), await history.ends(partitions)
        files = history.segments
        archived = {partition: found[-1].next for partition, found in files.items() if found}
        begins = {partition: max(start, archived.get(partition, 0)) for partition, start in starts.items()}
        tail: dict[Partition, list[int]] = {partition: [] for partition in begins}
        async for partition, records in stretches(history.log, begins, ends, records_max=READ_RECORDS):
            tail[partition] += [offset for offset, _ in records]
        return cls(history, begins, tail)

    def whole(self, partitions: Collection[Partition]) -> bool:
        """Return whether every record these partitions ever had is in a file or was read."""
        return all(self._archived(partition) == self.begins[partition] for partition in partitions)

    def _archived(self, partition: Partition) -> int:
        """Return the offset up to which files cover the partition without a gap, from its first position on."""
        following = 0
        for file in self.history.segments.get(partition, ()):
            following = file.next if file.first == following else following
        return following

    def all(self, partition: Partition) -> int:
        """Return the number of records in a partition."""
        return sum(file.records for file in self.history.segments.get(partition, ())) + len(self.tail[partition])

    async def before(self, partition: Partition, position: int) -> int:
        """Return the number of records before a position."""
        count = bisect_left(self.tail[partition], position)
        for file in self.history.segments.get(partition, ()):
            if file.next <= position:
                count += file.records
            elif file.first < position:  # an older version that stopped in the middle of a file
                count += sum(offset < position for offset, _ in read_segment(await self.history.fetch(file)))
        return count

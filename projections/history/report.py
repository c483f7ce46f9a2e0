"""Signed reports: a read model at a position, with all that is needed to fold it again and compare.

A report names its positions on the log, the hash chain of each partition there, the code that folded it, and the digest
of each table, optionally with its rows. It is signed (Ed25519). `check` folds again from the start and lists mismatches.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from itertools import zip_longest
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from psycopg import AsyncConnection
from pydantic import BaseModel

from events.errors import KinologError
from events.topics import Partition
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.log import Source, stretches
from projections.folding.runner import install
from projections.history.parquet import NO_LINK, BrokenChain, check_segment, next_link
from projections.history.past import Past, rows_of
from projections.history.signing import Signed
from projections.history.source import History

Fetch = Callable[[Any], Awaitable[bytes]]


class ReportedTable(BaseModel, frozen=True):
    """A table: its row count, its digest (`projections.folding.store.TableStore.digest`), and its rows when requested."""

    count: int
    sha256: str
    rows: tuple[dict[str, Any], ...] | None = None


class ProjectionReport(Signed, frozen=True):
    """The document.

    `positions` and `chains` are keyed by `topic/partition`: the next offset, and the hash chain before it (hex). `code` is
    the digest of the fold's source and SQL; `parameters` have the rules with which the fold is made.
    """

    version: Literal[1] = 1
    kinolog: str
    made_at: datetime
    projection: str
    parameters: dict[str, Any]
    code: str
    positions: dict[str, int]
    chains: dict[str, str]
    tables: dict[str, ReportedTable]


async def make(
    projection: Projection,
    past: Past,
    history: History,
    positions: Mapping[Partition, int],
    rows: bool,
    parameters: dict[str, Any],
    *,
    kinolog: str,
    made_at: datetime,
) -> ProjectionReport:
    """Fold a projection from the start up to `positions`; return an unsigned report."""
    wanted = {(topic.name, n): positions.get((topic.name, n), 0) for topic in projection.topics for n in range(topic.partitions)}
    chains = await chains_at(history, wanted)
    async with past.cold(projection, history, wanted) as connection:
        tables = await _tables(projection, connection, rows=rows)
    return ProjectionReport(
        kinolog=kinolog,
        made_at=made_at,
        projection=projection.name,
        parameters=parameters | {"rules": dict(projection.rules)},
        code=code_of(projection),
        positions={_name(partition): position for partition, position in sorted(wanted.items())},
        chains={_name(partition): link.hex() for partition, link in sorted(chains.items())},
        tables=tables,
    )


async def _tables(projection: Projection, connection: AsyncConnection[Any], *, rows: bool) -> dict[str, ReportedTable]:
    digests = await (await install(connection, projection)).digest(connection)
    found = {}
    for table in projection.tables:
        content = tuple([row async for _, row in rows_of(projection, table, connection)])
        found[table.name] = ReportedTable(count=len(content), sha256=digests[table.name], rows=content if rows else None)
    return found


async def chains_at(history: Source, positions: Mapping[Partition, int]) -> dict[Partition, bytes]:
    """Return each partition's hash chain over all records before its position, computed from the records themselves."""
    links = dict.fromkeys(positions, NO_LINK)
    starts = await history.starts(positions)
    begins = {partition: starts[partition] for partition, position in positions.items() if starts[partition] < position}
    async for partition, records in stretches(history, begins, positions, records_max=10_000):
        for offset, value in records:
            links[partition] = next_link(links[partition], offset, value)
    return links


# --- checking -------------------------------------------------------------------------------------------------------


async def check(
    report: ProjectionReport, projection: Projection, past: Past, history: History, unchecked: Fetch, key: Ed25519PublicKey
) -> list[str]:
    """Return one sentence per mismatch. The report must be signed with `key`.

    `unchecked` fetches an archive file without verifying it, so that the first altered event can be named.
    """
    findings = report.faults(key)
    if projection.under:
        projection = projection.under(tuple(report.parameters.get("rules", {}).items()))
    positions = {_partition(name): position for name, position in report.positions.items()}
    wanted = {(topic.name, number) for topic in projection.topics for number in range(topic.partitions)}
    if set(positions) != wanted:
        return [
            *findings,
            f"positions: {projection.name} reads {len(wanted)} partitions, the report names {len(positions)} or others",
        ]
    ends = await history.ends(positions)
    beyond = [partition for partition, position in sorted(positions.items()) if position > ends[partition]]
    findings += [
        f"{_name(partition)}: the report stands at {positions[partition]}, the log ends at {ends[partition]}"
        for partition in beyond
    ]
    damage = await _damage(history, positions, unchecked)
    if beyond or damage:
        return findings + damage
    chains = await chains_at(history, positions)
    for partition, link in sorted(chains.items()):
        if report.chains.get(_name(partition)) != link.hex():
            findings.append(
                f"{_name(partition)}: the events before {positions[partition]} are not those of the report; its hash chain differs"
            )
    async with past.cold(projection, history, positions) as connection:
        tables = await _tables(projection, connection, rows=True)
    differing = _compare(projection, report.tables, tables)
    if differing and report.code != code_of(projection):
        differing.append("code: the report was made by other code than this, which may be why tables differ")
    return findings + differing


async def _damage(history: History, positions: Mapping[Partition, int], unchecked: Fetch) -> list[str]:
    """Return one sentence per damaged file among those that the report covers."""
    findings = []
    for partition in sorted(positions):
        link = NO_LINK
        for segment in history.segments.get(partition, ()):
            if segment.first >= positions[partition]:
                break
            try:
                file = await unchecked(segment)
                link = check_segment(file, link, f"archive: {_name(partition)}")
                await history.fetch(segment)
            except (BrokenChain, KinologError) as error:
                findings.append(str(error))
                break
            except ValueError as error:
                findings.append(f"{segment.key} cannot be read: {error}")
                break
            if link.hex() != segment.chain:
                findings.append(f"{segment.key}: its events are not those that were archived; the hash chain differs")
                break
    return findings


def _compare(projection: Projection, claimed: Mapping[str, ReportedTable], found: Mapping[str, ReportedTable]) -> list[str]:
    findings = []
    for table in projection.tables:
        here, there = found[table.name], claimed.get(table.name)
        if there is None:
            findings.append(f"{table.name}: the report does not have this table")
            continue
        for row, reported in zip_longest(here.rows or (), there.rows if there.rows is not None else here.rows or ()):
            if row != reported:
                keys = [[one[column] for column in table.key if column in one] for one in (reported, row) if one is not None]
                findings.append(f"{table.name} {' '.join(map(str, keys[0]))}: the row is not what the events fold into")
                break
        if (there.count, there.sha256) != (here.count, here.sha256):
            findings.append(
                f"{table.name}: {here.count} rows with digest {here.sha256[:12]}…, the report says {there.count} with "
                f"{there.sha256[:12]}…"
            )
    return findings + [f"{name}: there is no such table" for name in sorted(set(claimed) - set(found))]


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"


def _partition(name: str) -> Partition:
    topic, _, number = name.rpartition("/")
    return topic, int(number) if number.isdecimal() else -1

"""Checks that no event is lost, doubled or out of order.

Compares each projection and process with a fold of the whole log, and each job's facts with the rules that hold through any crash.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast

from psycopg import AsyncConnection

from events.envelope import Recorded
from events.jobs import JobFact
from events.topics import JOBS, Partition
from projections.folding.fold import Projection
from projections.folding.log import LogReader, Source
from projections.folding.rebuild import rebuild
from projections.folding.runner import as_served
from projections.folding.store import SQL
from projections.history.audit import JobAudit

STILL_S = 10.0
"""Time after which a feed with events left to read counts as standing still; a large batch takes half as long."""


async def verify(connection: AsyncConnection[Any], source: Source, folds: Collection[Projection]) -> dict[str, Any]:
    """Check everything without changing anything; return the results, with one finding per fault.

    `{"projections": {name: {"events", "equal", "digests"}}, "jobs": number, "findings": [sentence, …]}`. `equal` is
    None when there is nothing to compare with.
    """
    findings: list[str] = []
    projections = {}
    for projection in folds:
        done = await rebuild(await as_served(connection, projection), connection, source, keep=False)
        projections[done.name] = {"events": done.events, "equal": done.equal, "digests": done.digests}
        rows = sum(one.added + one.gone + one.changed for one in done.changes)
        if done.equal is None and not done.partial:
            findings.append(f"{done.name} was made for other tables than this code's; run: kinolog rebuild {done.name}")
        elif done.is_restatement:
            findings.append(
                f"{done.name} was made by other code, and {rows} rows would be others by this code; restate it by: "
                f"kinolog rebuild {done.name} (--dry-run shows them)"
            )
        elif done.equal is False:
            findings.append(
                f"{done.name} differs from a fold of the whole log in {rows} rows: some were lost, doubled or changed by hand; "
                f"kinolog rebuild {done.name} --dry-run shows them"
            )
    audit = await audit_jobs(source)
    findings += audit.complaints
    return {"projections": projections, "jobs": audit.jobs, "findings": findings}


async def every_position(connection: AsyncConnection[Any]) -> dict[tuple[str, Partition], int]:
    """Return the position of each projection, process and effect, by (name, partition)."""
    cursor = await connection.execute(SQL["every_position"])
    return {(name, (topic, partition)): position for name, topic, partition, position in await cursor.fetchall()}


async def standing(
    connection: AsyncConnection[Any],
    source: Source,
    before: Mapping[tuple[str, Partition], int],
    sleep: Callable[[float], Awaitable[None]],
) -> list[str]:
    """Return a finding for each partition with more events in which a feed has not moved since `before`, nor in STILL_S more."""
    waited_s = 0.0
    while True:
        now = await every_position(connection)
        still = {key: position for key, position in before.items() if now.get(key) == position}
        following = await _next_events(source, {(partition, position) for (_, partition), position in still.items()})
        stuck = [(name, found) for (name, partition), position in still.items() if (found := following.get((partition, position)))]
        if not stuck or waited_s >= STILL_S:
            break
        await sleep(0.5)
        waited_s += 0.5
    return [
        f"{name} stands still at {topic}/{partition}/{offset} ({subject}), although the log has more; `kinolog status` says why"
        for name, (topic, partition, offset, subject) in stuck
    ]


async def _next_events(
    source: Source, wanted: Collection[tuple[Partition, int]]
) -> dict[tuple[Partition, int], tuple[str, int, int, str]]:
    """Return topic, partition, offset and subject of the first event at or after each position; omit positions without one."""
    found: dict[tuple[Partition, int], tuple[str, int, int, str]] = {}
    for partition, position in wanted:
        reader = LogReader(source)
        starts = await source.starts([partition])
        await reader.seek({partition: max(position, starts[partition])})
        if reader.missing(await reader.ends()):
            batch, dead = await reader.read(records_max=1, wait_s=0.5)
            if batch is not None and batch.records:
                first = batch.records[0]
                found[partition, position] = (*partition, first.offset, first.envelope.subject)
            elif dead:
                found[partition, position] = (*partition, dead[0].offset, "cannot be decoded")
    return found


async def audit_jobs(source: Source) -> JobAudit:
    """Check every fact on topic `jobs`, from its start to its present end."""
    reader = LogReader(source)
    await reader.seek({(JOBS.name, number): 0 for number in range(JOBS.partitions)})
    audit = JobAudit()
    async for records, dead in reader.to_end():
        audit.complaints += [f"{letter.topic}/{letter.partition}/{letter.offset}: {letter.reason}" for letter in dead]
        for recorded in records:
            audit.see(cast("Recorded[JobFact]", recorded))  # a reader yields only events of its topic
    return audit

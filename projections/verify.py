"""Checks that nothing is lost, doubled or out of order: every projection against a fold of the whole log, every job's
facts against the rules that hold whatever crashed."""

from typing import Any

from psycopg import AsyncConnection

from events.topics import JOBS
from projections.audit import JobAudit
from projections.log import LogReader, Source
from projections.rebuild import rebuild
from projections.registry import PROJECTIONS


async def verify(connection: AsyncConnection[Any], source: Source) -> dict[str, Any]:
    """Return what was checked, and a finding for each thing that is wrong.

    `{"projections": {name: {"events", "equal", "digests"}}, "jobs": number, "findings": [sentence, …]}`. `equal` is
    None where there is nothing to compare with. Nothing is changed.
    """
    findings: list[str] = []
    projections = {}
    for projection in PROJECTIONS.values():
        done = await rebuild(projection, connection, source, keep=False)
        projections[done.name] = {"events": done.events, "equal": done.equal, "digests": done.digests}
        if done.equal is None and not done.partial:
            findings.append(f"{done.name} was made by other code; run: kinolog rebuild {done.name}")
        elif done.equal is False:
            findings.append(f"{done.name} differs from a fold of the whole log; run: kinolog rebuild {done.name}")
    audit = await audit_jobs(source)
    findings += audit.complaints
    return {"projections": projections, "jobs": audit.jobs, "findings": findings}


async def audit_jobs(source: Source) -> JobAudit:
    """Read the topic jobs from its start to its present end and check every fact."""
    reader = LogReader(source)
    await reader.seek({(JOBS.name, number): 0 for number in range(JOBS.partitions)})
    audit = JobAudit()
    async for records, dead in reader.to_end():
        audit.complaints += [f"{letter.topic}/{letter.partition}/{letter.offset}: {letter.reason}" for letter in dead]
        for recorded in records:
            audit.see(recorded)
    return audit

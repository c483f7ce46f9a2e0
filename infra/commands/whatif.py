"""`kinolog whatif`: the recorded work under another policy."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, note, progress, table

if TYPE_CHECKING:
    from events.envelope import Recorded
    from events.jobs import JobFact, JobRequest
    from processors.dispatch.whatif import Alternative

FUNCTIONS = ("policy", "workers", "ladder", "seconds")


def whatif(
    policy: Annotated[Path, typer.Option(help="File with policy(), workers(), ladder() or seconds(): docs/how-to/whatif.md.")],
    since: Annotated[datetime | None, typer.Option(help="Only requests from this time on (UTC).")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the recorded attempts that new attempts are like.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Decide the recorded work again by another policy, in virtual time, and compare with what happened.

    Requests, durations and failures are those of the log; the assignment of jobs is decided anew. Equal seeds give equal answers.

    \b
    Examples:
      kinolog whatif --policy patient.py
      kinolog whatif --policy patient.py --since 2026-11-01 --seed 2 --json
    """
    from datetime import UTC

    if not policy.is_file():
        raise UsageFault(f"{policy}: there is no such file")
    found = asyncio.run(_whatif(policy, since.replace(tzinfo=UTC) if since else None, seed))
    if as_json:
        document(found)
        return
    happened, replayed, other = found["happened"], found["replayed"], found["alternative"]
    rows = [{"figure": name, "happened": happened[name], "replayed": replayed[name], "other": other[name]} for name in happened]
    headings = {"": "figure", "happened": "happened", "recorded policy": "replayed", policy.stem: "other"}
    table(rows, {heading: lambda row, name=name: row[name] for heading, name in headings.items()}, as_json=False)  # type: ignore[misc]
    note(f"under the recorded policy the first {found['claims_in_order']} of {found['claims']} claims come out as they were")


def alternative_of(path: Path) -> "Alternative":
    """Return the functions of a policy file. Raises UsageFault when it has none."""
    from processors.dispatch.whatif import Alternative
    from projections.history.replay import load_module

    module = load_module(path)
    named = {name: getattr(module, name) for name in FUNCTIONS if callable(getattr(module, name, None))}
    if not named:
        raise UsageFault(f"{path} wants at least one of these functions: {', '.join(FUNCTIONS)}; see docs/how-to/whatif.md")
    return Alternative(**named)


async def _whatif(path: Path, since: datetime | None, seed: int) -> dict[str, Any]:
    from events.errors import NotFound
    from infra.commands.support.services import settings_of_services
    from infra.policy import policy_of
    from processors.dispatch.figures import claims_of, measure
    from processors.dispatch.recording import record
    from processors.dispatch.whatif import Alternative, Replay

    settings, other = settings_of_services(), alternative_of(path)
    policy = policy_of(settings)
    happened, replayed, decided, in_order, claims = [], [], [], 0, 0
    for requests, facts in (await _history()).values():
        recording = record(requests, facts, since, policy)
        if not recording.requests:
            continue
        was, again = recording.facts, Replay(recording, policy, Alternative(), seed).run()
        before = claims_of(was)
        made = claims_of(again[len(recording.before) :])
        changed = (n for n, (one, two) in enumerate(zip(before, made, strict=False)) if one != two)
        in_order += next(changed, min(len(before), len(made)))
        claims += len(before)
        happened += recording.before + was
        replayed += again
        decided += Replay(recording, policy, other, seed).run()
    if not claims:
        raise NotFound(f"no job was claimed{f' since {since:%Y-%m-%d %H:%M}' if since else ''}: there is nothing to decide again")
    return {
        "policy": path.name,
        "since": since,
        "seed": seed,
        "claims": claims,
        "claims_in_order": in_order,
        "happened": measure(happened, since)._asdict(),
        "replayed": measure(replayed, since)._asdict(),
        "alternative": measure(decided, since)._asdict(),
    }


async def _history() -> dict[int, tuple[Sequence["Recorded[JobRequest]"], Sequence["Recorded[JobFact]"]]]:
    """Return requests and facts of each partition, from the archive and the log."""
    from events.topics import JOB_REQUESTS, JOBS
    from infra.commands.support.services import settings_of_services
    from infra.runtime.history import open_history
    from projections.folding.log import LogReader

    found: dict[int, tuple[list[Any], list[Any]]] = {n: ([], []) for n in range(JOBS.partitions)}
    async with open_history(settings_of_services()) as history:
        reader = LogReader(history)
        partitions = [(topic.name, number) for topic in (JOB_REQUESTS, JOBS) for number in range(topic.partitions)]
        await reader.seek(dict.fromkeys(partitions, 0))
        total = sum((await history.ends(partitions)).values())
        with progress("reading") as on_progress:
            async for records, _dead in reader.to_end():
                for recorded in records:
                    found[recorded.partition][recorded.topic == JOBS.name].append(recorded)
                on_progress("reading", sum(reader.positions.values()), total)
    return dict(found)

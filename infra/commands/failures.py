"""`kinolog failures`: attempts that failed, the report on them, and their capsules, through the admin API."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.commands.explain import story_of
from infra.commands.support.admin_api import connected, resource
from infra.commands.support.exits import Away
from infra.commands.support.output import AsJson, AsOf, Row, document, fields, line, moment, note, printable, short, table

if TYPE_CHECKING:
    from projections.failures.capsule import Capsule

app = typer.Typer(rich_markup_mode=None, help="List, explain, repeat and resolve failures.", no_args_is_help=True)
ASKED_EVERY_S = 0.5

FailureId = Annotated[str, typer.Argument(metavar="ID", help="The failure's id: job (or eight characters of it), colon, epoch.")]


@app.command()
def report(
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days before now that the report covers.")] = 7,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most this many patterns.")] = 10,
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="For people or for programs.")] = "text",
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Report failures by pattern, with urgency and advice. --json is short for --format json.

    \b
    Examples:
      kinolog failures report
      kinolog failures report --days 14 --limit 20
      kinolog failures report --format json | jq .common_patterns
    """
    with connected() as api:
        made = api.get("/api/failures/report", days=days, limit=limit, as_of=as_of)
    if as_json or format_ == "json":
        document(made)
        return
    for text in report_lines(made):
        line(printable(text))


def report_lines(made: Row) -> Iterator[str]:
    """Yield the report in the layout of Reencodarr's, line by line. Pure."""
    summary = made["summary"]
    yield "=== Video Processing Failure Report ==="
    yield f"Period: Last {summary['period_days']} days"
    yield ""
    yield "Summary:"
    yield f"  Total Failures: {summary['total_failures']}"
    yield f"  Resolved: {summary['resolved_failures']}"
    yield f"  Unresolved: {summary['unresolved_failures']}"
    yield f"  Resolution Rate: {summary['resolution_rate_percent']}%"
    for heading, name, rows in (
        ("Failures by Stage:", "stage", made["by_stage"]),
        ("Failures by Category:", "category", made["by_category"]),
    ):
        if rows:
            yield ""
            yield heading
            for row in rows:
                yield f"  {row[name]}: {row['total']} total ({row['unresolved']} unresolved)"
    yield from _patterns(made["common_patterns"])
    if made["critical_failures"]:
        yield ""
        yield "Critical Failures:"
        for item in made["critical_failures"]:
            failure = item["failure"]
            yield f"  [{item['severity'].upper()}] {failure['failure_id']} {failure['code']}: {failure['failure']['message']}"
    if made["recommendations"]:
        yield ""
        yield "Recommendations:"
        for item in made["recommendations"]:
            yield f"  [{item['priority'].upper()}] {item['title']}"
            yield f"    {item['description']}"
            yield f"    Action: {item['action']}"


def _patterns(patterns: list[dict[str, Any]]) -> Iterator[str]:
    if patterns:
        yield ""
        yield "Most Common Failure Patterns:"
    for pattern in patterns:
        what = f"{pattern['stage']}/{pattern['category']} ({pattern['code']})"
        yield f"  {what}: {pattern['occurrences']} occurrence{'s' if pattern['occurrences'] != 1 else ''}"
        yield f"    Sample: {pattern['sample_message']}"


@app.command("list")
def list_(
    stage: Annotated[str | None, typer.Option(help="Only this stage: analysis, crf_search, encoding, post_processing.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category, as resource_exhaustion.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this code, as EXIT_137.")] = None,
    video: Annotated[str | None, typer.Option(help="Only for this video: its id, slug, or eight characters of its id.")] = None,
    job: Annotated[str | None, typer.Option(help="Only attempts at this job: its id, or eight characters of it.")] = None,
    resolved: Annotated[bool | None, typer.Option("--resolved/--open", help="Only resolved ones, or only open ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the attempts that failed, newest first.

    \b
    Examples:
      kinolog failures list --open
      kinolog failures list --category timeout --json
    """
    only = {"stage": stage, "category": category, "code": code, "video_id": video, "job_id": job, "resolved": resolved}
    with connected() as api:
        rows = api.pages("/api/failures", limit=limit, as_of=as_of, **only)
    table(
        rows,
        {
            "failure": lambda row: short(row["failure_id"]),
            "code": lambda row: row["code"],
            "why": lambda row: row["failure"]["message"],
            "time": lambda row: moment(row["failed_at"]),
            "resolved": lambda row: row["resolved_by"],
            "attempt": lambda row: f"{row['attempt']}{' (last)' if row['final'] else ''}",
            "stage": lambda row: row["stage"],
            "category": lambda row: row["category"],
        },
        as_json=as_json,
        empty="nothing failed",
    )


@app.command()
def show(failure: FailureId, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show one failed attempt: the tool's words, its command line, the machine, reruns.

    \b
    Examples:
      kinolog failures show f6c1070f:1
    """
    with connected() as api:
        found = api.get(resource("failures", failure), as_of=as_of)
    if as_json:
        document(found)
        return
    row = found["failure"]
    shown = {**row, **row["failure"], **(row["failure"].get("context") or {}), "reruns": found["reruns"]}
    fields({name: value for name, value in shown.items() if name not in ("failure", "context")}, as_json=False)


@app.command()
def resolve(
    failure: FailureId,
    reason: Annotated[str, typer.Option(help="Why the failure is resolved; recorded on the log.")],
    as_json: AsJson = False,
) -> None:
    """Resolve a failure whose cause is gone. A later success resolves it automatically.

    \b
    Examples:
      kinolog failures resolve f6c1070f:1 --reason "the machine got more memory"
    """
    with connected() as api:
        answer = api.post(resource("failures", failure, "resolve"), {"reason": reason})
    if as_json:
        document(answer)
    else:
        note(f"{failure} is resolved")


@app.command()
def capsule(
    failure: FailureId,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a failed attempt for a rerun: the job, its inputs' digests, arguments, versions, events.

    It is JSON with or without --json, and holds no media: a rerun fetches them by their keys and checks their digests.

    \b
    Examples:
      kinolog failures capsule f6c1070f:1 --out failure.json
      kinolog failures capsule f6c1070f:1 | jq .failure.context.command
    """
    made = asyncio.run(_capsule(failure)).model_dump_json(indent=None if as_json else 2)
    if out is None:
        line(made)
        return
    out.write_text(f"{made}\n")
    note(f"{out}: the capsule of {failure}")


@app.command()
def rerun(
    what: Annotated[str, typer.Argument(metavar="CAPSULE|ID", help="A capsule's file, or a failure's id.")],
    here: Annotated[bool, typer.Option("--here", help="On this machine, which need not be a worker.")] = False,
    wait_s: Annotated[float, typer.Option(min=0, help="How long to wait for another worker's verdict, seconds.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Let another worker repeat a failed attempt, and record whether it fails in the same way.

    The dispatcher assigns it, before other jobs, to any worker but the one that failed. Its results are deleted; the
    video and its jobs are not touched. With --here it runs on this machine: that needs the settings of the object store,
    and the administrator's token.

    \b
    Examples:
      kinolog failures rerun f6c1070f:1
      kinolog failures rerun failure.json --here --json
    """
    from projections.failures.capsule import opened

    path = Path(what)
    found = opened(path.read_bytes()) if path.is_file() else asyncio.run(_capsule(what))
    note(f"running {found.spec.kind} of job {found.job_id} again, which failed with {found.failure.code}")
    ended = _here(found) if here else _elsewhere(found, wait_s)
    if as_json:
        document(ended)
        return
    line(ended["verdict"].replace("_", " "))
    again = ended["failure"]
    note(f"{ended['worker']}: " + (f"it failed with {again['code']}: {again['message']}" if again else "it succeeded"))


def _here(capsule: "Capsule") -> dict[str, Any]:
    """Run it on this machine, and report the outcome to the admin app."""
    from infra.commands.support.reruns import rerun as run_again
    from infra.commands.support.services import settings_of_services

    ended = asyncio.run(run_again(settings_of_services(), capsule))
    failure = ended.failure.model_dump(mode="json") if ended.failure else None
    body = {"worker": ended.worker, "seconds": ended.seconds, "failure": failure}
    with connected() as api:
        shown: dict[str, Any] = api.post(resource("failures", capsule.failure_id, "reruns"), body)
    return shown | body


def _elsewhere(capsule: "Capsule", wait_s: float) -> dict[str, Any]:
    """Have another worker run it; return its verdict. Raises Away when there is none in time."""
    where = resource("failures", capsule.failure_id)
    with connected() as api:
        known = {rerun["rerun_id"] for rerun in api.get(where)["reruns"]}
        job_id = api.post(f"{where}/rerun", {"spec": capsule.spec.model_dump(mode="json")})["job_id"]
        note("it waits for another worker than the one that failed; --here would run it on this machine")
        deadline = time.monotonic() + wait_s
        while True:
            fresh = [rerun for rerun in api.get(where)["reruns"] if rerun["rerun_id"] not in known]
            if fresh:
                return {**fresh[0], "job_id": job_id}
            if time.monotonic() > deadline:
                raise Away(f"no verdict after {wait_s:g} s: job {job_id} waits for another worker, or runs; ask again later")
            time.sleep(ASKED_EVERY_S)


async def _capsule(failure: str) -> "Capsule":
    """Make the capsule of a failed attempt from the log."""
    from projections.failures.capsule import capsule_of

    with connected() as api:
        found = api.get(resource("failures", failure))["failure"]
    return capsule_of(found["failure_id"], await story_of(found["job_id"]))

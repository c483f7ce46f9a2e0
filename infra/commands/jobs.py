"""`kinolog jobs`: the queue and its operation, through the admin API."""

from typing import Annotated

import typer

from infra.commands.support.admin_api import connected, resource
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, AsOf, Row, document, fields, line, note, short, table

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Job = Annotated[str, typer.Argument(help="The job's id, or eight characters of it.")]
Reason = Annotated[str, typer.Option(help="The reason, recorded with the event.")]
Status = Annotated[str | None, typer.Option(help="Only these: queued, claimed, retrying, completed, failed, cancelled.")]
Video = Annotated[str | None, typer.Option(help="Only jobs of this video: its id, slug, or eight characters of its id.")]


@app.callback()
def jobs(
    context: typer.Context,
    status: Status = None,
    video: Video = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind: analyse, encode, audio, extras, verify.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs, or show, cancel or retry some.

    \b
    Examples:
      kinolog jobs --status queued
      kinolog jobs show f6c1070f
      kinolog jobs retry --all --video holiday-hfagkw8m
    """
    if context.invoked_subcommand is not None:
        return
    with connected() as api:
        rows = api.pages("/api/jobs", limit=limit, status=status, video_id=video, kind=kind, as_of=as_of)
    table(
        rows,
        {
            "job": lambda row: short(row["job_id"]),
            "video": lambda row: short(row.get("video_id")),
            "what": lambda row: row.get("what") or row.get("kind"),
            "status": lambda row: row.get("status"),
            "why": _why,
            "attempt": lambda row: row.get("attempt"),
            "worker": lambda row: short(row.get("worker_id")),
            "priority": lambda row: row.get("priority"),
        },
        as_json=as_json,
        empty="no jobs",
    )


@app.command()
def show(job: Job, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show one job: its state, attempts, failure and progress.

    \b
    Examples:
      kinolog jobs show f6c1070f --json
    """
    with connected() as api:
        fields(api.get(resource("jobs", job), as_of=as_of), as_json=as_json)


@app.command()
def cancel(job: Job, reason: Reason = "cancelled by an operator", as_json: AsJson = False) -> None:
    """Request that a job stops. The dispatcher decides; a worker with the job stops within seconds.

    \b
    Examples:
      kinolog jobs cancel f6c1070f --reason "wrong file"
    """
    with connected() as api:
        answer = api.post(resource("jobs", job, "cancel"), {"reason": reason})
    _accepted([answer["job_id"]], answer, "cancel", as_json=as_json)


@app.command()
def requeue(
    job: Job,
    priority: Annotated[str | None, typer.Option(help="From now on: high, normal or low.")] = None,
    reason: Reason = "requeued by an operator",
    as_json: AsJson = False,
) -> None:
    """Request that an unfinished job is queued again, even if a worker has it, with a fresh count of attempts.

    \b
    Examples:
      kinolog jobs requeue f6c1070f --priority high
    """
    with connected() as api:
        answer = api.post(resource("jobs", job, "requeue"), {"reason": reason, "priority": priority})
    _accepted([answer["job_id"]], answer, "requeue", as_json=as_json)


@app.command()
def retry(
    job: Annotated[str | None, typer.Argument(help="The job's id; or use --all.")] = None,
    all_failed: Annotated[bool, typer.Option("--all", help="Every failed job, or those that the options select.")] = False,
    video: Video = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind: analyse, encode, audio, extras, verify.")] = None,
    status: Annotated[str, typer.Option(help="Only jobs in this state: failed, cancelled.")] = "failed",
    pool: Annotated[str | None, typer.Option(help="Only jobs of this pool.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Only the jobs of this chunk.")] = None,
    rendition: Annotated[str | None, typer.Option(help="Only jobs that make this rung or track.")] = None,
    code: Annotated[str | None, typer.Option(help="Only jobs that failed with this code.")] = None,
    reason: Reason = "retried by an operator",
    as_json: AsJson = False,
) -> None:
    """Request that failed or cancelled jobs are tried again, with a fresh count of attempts.

    \b
    Examples:
      kinolog jobs retry f6c1070f
      kinolog jobs retry --all --pool night --code TIMEOUT --reason "more threads now"
      kinolog jobs retry --all --video holiday-hfagkw8m --rendition 720p
    """
    if (job is None) != all_failed:
        raise UsageFault("name one job, or say --all")
    with connected() as api:
        if job is not None:
            answer = api.post(resource("jobs", job, "retry"), {"reason": reason})
            _accepted([answer["job_id"]], answer, "retry", as_json=as_json)
            return
        wanted = {"status": status, "video_id": video, "kind": kind, "pool": pool, "chunk": chunk}
        wanted |= {"rendition": rendition, "code": code}
        answer = api.post("/api/jobs/retry", {"reason": reason, **wanted})
    _accepted(answer["job_ids"], answer, "retry", as_json=as_json)
    if answer["more"]:
        note("there are more of them: say it again when these are queued")


def _accepted(jobs: list[str], answer: object, what: str, *, as_json: bool) -> None:
    """Report that the requests are on the log; the dispatcher decides about them."""
    if as_json:
        document({"requested": what, "job_ids": jobs, "answer": answer})
        return
    for job in jobs:
        line(job)
    note(f"{what} requested for {len(jobs)} job(s)")


def _why(row: Row) -> str | None:
    failure = row.get("failure")
    return failure["message"] if isinstance(failure, dict) else None

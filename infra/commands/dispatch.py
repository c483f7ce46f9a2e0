"""`kinolog pause`, `kinolog resume`: stop and restart assigning jobs, through the admin API."""

from typing import Annotated

import typer

from infra.commands.support.admin_api import connected, resource
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, document, note

Worker = Annotated[str | None, typer.Option(help="The worker's id, or eight characters of it.")]
Pool = Annotated[str | None, typer.Option(help="The pool's name.")]
Reason = Annotated[str, typer.Option(help="The reason, recorded on the log.")]


def pause(
    worker: Worker = None,
    pool: Pool = None,
    drain: Annotated[bool, typer.Option("--drain", help="Workers stop when their jobs are done.")] = False,
    reason: Reason = "paused by an operator",
    as_json: AsJson = False,
) -> None:
    """Give a worker, or a whole pool, no new jobs; running jobs continue.

    \b
    Examples:
      kinolog pause --worker d5eb561a --drain --reason "new memory"
      kinolog pause --pool default
    """
    with connected() as api:
        answer = api.post(f"{_path(worker, pool)}/pause", {"reason": reason, "drain": drain})
    _print(answer, "pause", as_json=as_json)


def resume(worker: Worker = None, pool: Pool = None, reason: Reason = "resumed by an operator", as_json: AsJson = False) -> None:
    """Give a worker, or a pool, jobs again; this also ends a worker's quarantine.

    \b
    Examples:
      kinolog resume --pool default
    """
    with connected() as api:
        answer = api.post(f"{_path(worker, pool)}/resume", {"reason": reason})
    _print(answer, "resume", as_json=as_json)


def _path(worker: str | None, pool: str | None) -> str:
    if (worker is None) == (pool is None):
        raise UsageFault("name a --worker or a --pool")
    return resource("workers", worker) if worker is not None else resource("pools", pool or "")


def _print(answer: object, what: str, *, as_json: bool) -> None:
    """Report that the request is on the log; the dispatcher decides about it."""
    if as_json:
        document(answer)
    note(f"{what} requested")

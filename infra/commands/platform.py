"""`kinolog engine`, `up`, `down`, `status`, `worker`: the platform's processes on this machine."""

import os
import sys
from typing import Annotated, Any

import typer

from events.errors import KinologError
from infra.commands.support.exits import ExitCode, UsageFault
from infra.commands.support.output import AsJson, done, note, size, table

engine = typer.Typer(rich_markup_mode=None, help="The local Kafka, PostgreSQL and object store.", no_args_is_help=True)


@engine.command("start")
def engine_start(as_json: AsJson = False) -> None:
    """Start the missing parts of the local engine, and wait until all are ready.

    \b
    Examples:
      kinolog engine start
    """
    from infra.local import supervision

    settings = _settings()
    supervision.start(settings, engine_only=True)
    _print_status(settings, supervision.status(settings, engine_only=True), as_json=as_json)


@engine.command("stop")
def engine_stop(as_json: AsJson = False) -> None:
    """Stop the local engine, and the platform, which cannot run without it; the data stays.

    \b
    Examples:
      kinolog engine stop
    """
    from infra.local import supervision

    supervision.stop(_settings())
    done("the engine is stopped", as_json=as_json)


@engine.command("status")
def engine_status(as_json: AsJson = False) -> None:
    """Show the engine's parts; ends with 3 when one does not run.

    \b
    Examples:
      kinolog engine status --json
    """
    from infra.local import supervision

    settings = _settings()
    _print_status(settings, supervision.status(settings, engine_only=True), as_json=as_json)


@engine.command("provide")
def engine_provide(as_json: AsJson = False) -> None:
    """Give the programs users, rights and topics at another Kafka than the local one.

    Each gets its password from KINOLOG_KAFKA_PASSWORDS and only the rights that it needs. KINOLOG_KAFKA_USER must be allowed to
    create users and rules there. Rules that give these users more rights are deleted.

    \b
    Examples:
      kinolog engine provide
    """
    from infra.local.engine import access

    users = access.provide_outside(_settings())
    done(f"{len(users)} users have their rights: {', '.join(users)}", as_json=as_json)


@engine.command("reset")
def engine_reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop everything and delete the engine's data: the log, the projections, every source and segment. Asks first.

    \b
    Examples:
      kinolog engine reset
      kinolog engine reset --yes
    """
    from infra.local import supervision

    settings = _settings()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageFault("this deletes everything; pass --yes when no terminal can ask")
        typer.confirm(f"Delete the log, the database and every video of {settings.var_dir}?", abort=True, err=True)
    supervision.reset(settings)
    done("everything is deleted", as_json=as_json)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the engine and every process of the platform; without --detach, until Ctrl-C.

    \b
    Examples:
      kinolog up
      KINOLOG_WORKERS=2 kinolog up --detach
    """
    from infra.local import supervision

    settings = _settings()

    def started() -> None:
        _print_rows(supervision.status(settings), as_json=as_json)
        note(f"public pages: http://{settings.local_host}:{settings.public_port}/" + ("" if detach else "  (Ctrl-C stops it)"))
        _print_first_link(settings)

    if detach:
        supervision.start(settings)
        started()
    else:
        supervision.run(settings, started=started)


def _print_first_link(settings: Any) -> None:
    """Print the link of the first administrator, while there is none; `kinolog users setup` makes another."""
    from infra.commands.people import first_link

    try:
        if link := first_link(settings):
            note(f"make your account: {link}  (good once, for a day; `kinolog users setup` makes another)")
    except KinologError as error:
        note(f"no link for the first account ({error}); make one with: kinolog users setup")


def down(as_json: AsJson = False) -> None:
    """Stop every process of the platform and the engine; workers hand back their jobs.

    \b
    Examples:
      kinolog down
    """
    from infra.local import supervision

    supervision.stop(_settings())
    done("everything is stopped", as_json=as_json)


def status(as_json: AsJson = False) -> None:
    """Show every process: state, readiness, address. Ends with 3 when one is not ready.

    \b
    Examples:
      kinolog status
      kinolog status --json | jq '.[] | select(.ready | not)'
    """
    from infra.local import supervision

    settings = _settings()
    _print_status(settings, supervision.status(settings), as_json=as_json)


def _settings() -> Any:
    from infra.runtime.settings import Settings

    return Settings.from_env(os.environ)


def _print_status(settings: Any, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the processes; end with AWAY when one is not ready."""
    _print_rows(rows, as_json=as_json)
    for row in rows:
        for part, warning in row["warnings"].items():
            note(f"{row['name']}: {part} {warning}")
    if not any(row["pid"] for row in rows):
        note(f"nothing runs in {settings.var_dir}; start it with: kinolog up --detach, or name its folder with KINOLOG_VAR_DIR")
    if not all(row["ready"] for row in rows):
        raise typer.Exit(ExitCode.AWAY)


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    table(
        rows,
        {
            "process": lambda row: row["name"],
            "state": lambda row: row["state"],
            "ready": lambda row: "yes" if row["ready"] else "no",
            "address": lambda row: row["address"],
            "what is wrong": lambda row: row["detail"],
            "pid": lambda row: row["pid"],
            "memory": lambda row: size(row["rss_bytes"]),
        },
        as_json=as_json,
        empty="no process belongs to this installation",
    )

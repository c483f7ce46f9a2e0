"""`kinolog worker`: run a worker here, inside the cluster or outside; make the token with which one joins."""

import asyncio
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.support.exits import Away, Refused, UsageFault
from infra.commands.support.output import AsJson, document, line, moment, note, short, table

if TYPE_CHECKING:
    from infra.runtime.settings import Settings
    from workers.remote.membership import Membership

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
)
JOIN_S = 30.0
Why = Annotated[str, typer.Option(help="The reason, recorded with the event.")]


@app.callback()
def worker(
    context: typer.Context,
    number: Annotated[int, typer.Option(min=1, max=1000, help="Number of this worker on its machine.")] = 1,
    join: Annotated[str | None, typer.Option(help="URL of a platform's worker app, as http://host:9002.")] = None,
    token: Annotated[
        str | None, typer.Option(help="A join token; needed the first time only. `-`: the first line of stdin.")
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Directory for the key and the work; default: remote/NUMBER in var_dir.")
    ] = None,
) -> None:
    """Run one worker until Ctrl-C or SIGTERM; it then finishes or hands back its jobs, at the second signal at once.

    \b
    Examples:
      kinolog worker
      KINOLOG_WORKER_POOL=night kinolog worker --number 2
      kinolog worker --join http://kinolog.example:9002 --token TOKEN
    """
    if context.invoked_subcommand is not None:
        return
    import infra.runtime.binaries  # noqa: F401 - names a missing extra, which would end the worker itself in a traceback

    settings = _settings()
    if join is None:
        if token is not None:
            raise UsageFault("--token goes with --join URL")
        os.execv(sys.executable, [sys.executable, "-m", "workers", str(number)])
    from infra.runtime.service_settings import http_url

    try:
        http_url(join)
    except ValueError as error:
        raise UsageFault(f"--join {error}") from error
    directory = (work_dir or settings.var_dir / "remote" / str(number)).resolve()
    if _member(directory, join) is None:
        if token is None:
            raise UsageFault("the first time a worker joins it needs --token; on the platform: kinolog worker token")
        _join(settings, join, sys.stdin.readline().strip() if token == "-" else token).save(directory)
    os.execv(sys.executable, [sys.executable, "-m", "workers.remote", str(directory), str(number)])


@app.command()
def token(
    pool: Annotated[list[str] | None, typer.Option(help="Only jobs of this pool; can be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only jobs of this kind; can be repeated.")] = None,
    life_s: Annotated[int, typer.Option(min=1, help="Life of the token, seconds.")] = 3600,
    as_json: AsJson = False,
) -> None:
    """Make a token with which one worker on another machine may join, once.

    \b
    Examples:
      kinolog worker token
      kinolog worker token --kind encode --kind audio --life-s 600
    """
    from infra.commands.support.admin_api import connected

    with connected() as api:
        made = api.post("/api/worker-keys/join-tokens", {"pools": pool or [], "kinds": kind or [], "life_s": life_s})
    if as_json:
        document(made)
        return
    line(made["token"])
    note(f"good once, until {made['expires_at']}; there: kinolog worker --join http://THIS-HOST:9002 --token TOKEN")


@app.command()
def keys(as_json: AsJson = False) -> None:
    """List the keys of workers on other machines, and join tokens.

    \b
    Examples:
      kinolog worker keys
    """
    from infra.commands.support.admin_api import connected

    with connected() as api:
        rows = api.get("/api/worker-keys")["items"]
    table(
        rows,
        {
            "key": lambda row: short(row["key_id"]),
            "begins": lambda row: row["prefix"],
            "for": lambda row: row["purpose"],
            "worker": lambda row: short(row["worker_id"]),
            "name": lambda row: row["name"],
            "used": lambda row: moment(row["used_at"]),
            "expires": lambda row: moment(row["expires_at"]),
            "revoked": lambda row: moment(row["revoked_at"]),
        },
        as_json=as_json,
        empty="no keys",
    )


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(help="A worker's id, or that of one of its keys, or eight characters of it.")],
    reason: Why = "",
    as_json: AsJson = False,
) -> None:
    """Revoke all keys of a worker, or one; they stop working within a second.

    \b
    Examples:
      kinolog worker revoke d5eb561a --reason "the machine was sold"
    """
    from infra.commands.support.admin_api import connected, resource

    with connected() as api:
        revoked = api.post(resource("worker-keys", which, "revoke"), {"reason": reason})
    if as_json:
        document(revoked)
    else:
        line(f"{len(revoked['key_ids'])} revoked")


def _member(directory: Path, url: str) -> "Membership | None":
    """Return the stored membership, if it is one of this platform."""
    from workers.remote.membership import Membership, NoMember

    try:
        found = Membership.load(directory)
    except NoMember:
        return None
    return found if found.url == url.rstrip("/") else None


def _join(settings: "Settings", url: str, token: str) -> "Membership":
    import httpx
    import psutil

    from infra.runtime.binaries import ffmpeg
    from infra.runtime.scratch import scratch
    from infra.runtime.version import VERSION
    from workers.app import capabilities
    from workers.attempts.work import Limits
    from workers.remote.membership import Membership
    from workers.transcode.detect import detect

    with scratch(settings) as folder:
        hardware = asyncio.run(detect(ffmpeg(settings), folder, Limits()))
    about: dict[str, Any] = {
        "worker_name": platform.node(),
        "pool": settings.worker_pool,
        "code_version": VERSION,
        "capabilities": capabilities(hardware).model_dump(mode="json"),
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
    }
    url = url.rstrip("/")
    try:
        answer = httpx.post(f"{url}/api/worker/register", json=about, headers={"X-Join-Token": token}, timeout=JOIN_S)
    except httpx.HTTPError as error:
        raise Away(f"the worker app does not answer at {url} ({type(error).__name__})") from error
    if not answer.is_success:
        problem = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
        raise Refused(problem.get("detail") or f"the worker app answered {answer.status_code}")
    joined = answer.json()
    if not joined["version_ok"]:
        note(joined["message"])
    return Membership(url, joined["worker_id"], joined["api_key"])


def _settings() -> "Settings":
    from infra.runtime.settings import Settings

    return Settings.from_env(os.environ)

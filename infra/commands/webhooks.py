"""`kinolog webhooks`: endpoints outside to which events are sent, through the admin API."""

from datetime import datetime
from typing import Annotated, Any

import typer

from infra.commands.support.admin_api import AdminApi, connected, resource
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, Row, document, done, fields, line, note, table

app = typer.Typer(rich_markup_mode=None, help="Send events to other programs.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id, or the beginning of it, or its name.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Type, or a glob over types; may be repeated.")]
Headers = Annotated[list[str] | None, typer.Option("--header", help="NAME: VALUE, sent with each message; may be repeated.")]


def found(api: AdminApi, which: str) -> Any:
    """Return the endpoint with this id or name, or with an id that begins so. Raises UsageFault."""
    rows = api.get("/api/webhooks")["webhooks"]
    same = [row for row in rows if which in (row["id"], row["name"])] or [row for row in rows if row["id"].startswith(which)]
    if len(same) != 1:
        raise UsageFault(f"{len(same) or 'no'} endpoints are called {which}; `kinolog webhooks list` shows all")
    return same[0]


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """List endpoints, whether they are paused and why, and their figures.

    \b
    Examples:
      kinolog webhooks list
    """
    with connected() as api:
        rows = api.get("/api/webhooks")["webhooks"]
    table(
        rows,
        {
            "id": lambda r: r["id"],
            "name": lambda r: r["name"],
            "state": state,
            "events": lambda r: ", ".join(r["events"]),
            "delivered": lambda r: r["successful_deliveries"],
            "failed": lambda r: r["failed_deliveries"],
            "address": lambda r: r["url"],
        },
        as_json=as_json,
        empty="there are no endpoints; `kinolog webhooks add` makes one",
    )


def state(row: Row) -> str:
    """Return the state of an endpoint in a word."""
    if row["paused"]:
        return str(row["paused"])
    return {"open": "away", "half_open": "away", "closed": "active"}[row["breaker"]]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address that takes messages.")],
    name: Annotated[str, typer.Option(help="A name for people; left out: the address.")] = "",
    event: Events = None,
    header: Headers = None,
    vlog: Annotated[bool, typer.Option("--vlog", help="Body and signature as VLog has them.")] = False,
    secret: Annotated[str | None, typer.Option(envvar="WEBHOOK_SECRET", help="The secret; left out: a random one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an endpoint, and print its secret once.

    \b
    Examples:
      kinolog webhooks add https://hooks.example.org/kinolog --event "video.*"
      kinolog webhooks add https://old.example.org/vlog --vlog --header "Authorization: Bearer abc"
    """
    wanted = {
        "name": name or url[:100],
        "url": url,
        "events": event or ["*"],
        "headers": dict(_pair(text) for text in header or ()),
        "format": "vlog" if vlog else "standard",
        "secret": secret,
    }
    with connected() as api:
        made = api.post("/api/webhooks", wanted)
    if as_json:
        document(made)
        return
    line(f"endpoint {made['id']}")
    if made["secret"]:
        line(f"secret {made['secret']}")
        note("the secret is shown here only; the receiver needs it to check signatures")


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise UsageFault(f"--header wants NAME: VALUE, not {text}")
    return name.strip(), value.strip()


@app.command()
def show(which: Id, as_json: AsJson = False) -> None:
    """Show an endpoint.

    \b
    Examples:
      kinolog webhooks show "Media server"
    """
    with connected() as api:
        fields(found(api, which), as_json=as_json)


@app.command()
def pause(which: Id, as_json: AsJson = False) -> None:
    """Send nothing to an endpoint for now. It keeps its place: `resume` sends what it missed.

    \b
    Examples:
      kinolog webhooks pause "Media server"
    """
    _activate(which, active=False, as_json=as_json)


@app.command()
def resume(which: Id, as_json: AsJson = False) -> None:
    """Let an endpoint go on at its place, also one that answered 410.

    \b
    Examples:
      kinolog webhooks resume "Media server"
    """
    _activate(which, active=True, as_json=as_json)


def _activate(which: str, *, active: bool, as_json: bool) -> None:
    with connected() as api:
        row = found(api, which)
        kept = {name: row[name] for name in ("name", "url", "events", "format")}
        api.put(resource("webhooks", row["id"]), {**kept, "active": active})
    done(f"{row['name']} {'goes on at its place' if active else 'is paused'}", as_json=as_json)


@app.command()
def remove(which: Id, as_json: AsJson = False) -> None:
    """Delete an endpoint, its address and its secrets for good.

    \b
    Examples:
      kinolog webhooks remove 0192f0a1
    """
    with connected() as api:
        row = found(api, which)
        api.delete(resource("webhooks", row["id"]))
    done(f"{row['name']} is deleted", as_json=as_json)


@app.command()
def rotate(
    which: Id,
    overlap_hours: Annotated[int, typer.Option(min=0, max=720, help="Hours for which the old secret signs as well.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Replace the secret of an endpoint, and print the new one once.

    \b
    Examples:
      kinolog webhooks rotate "Media server" --overlap-hours 2
    """
    with connected() as api:
        row = found(api, which)
        made = api.post(resource("webhooks", row["id"], "rotate"), {"overlap_s": overlap_hours * 3600})
    if as_json:
        document(made)
    else:
        line(f"secret {made['secret']}")


@app.command()
def test(
    which: Id,
    event_type: Annotated[str, typer.Option("--event", help="Type that the test has.")] = "video.ready",
    as_json: AsJson = False,
) -> None:
    """Send a test message once; ends with 1 when the endpoint does not take it.

    \b
    Examples:
      kinolog webhooks test "Media server"
    """
    with connected() as api:
        row = found(api, which)
        answer = api.post(resource("webhooks", row["id"], "test"), {"event_type": event_type})
    if as_json:
        document(answer)
    else:
        line(f"answered {answer['status_code']} in {answer['duration_ms']} ms" if answer["success"] else answer["error_message"])
    if not answer["success"]:
        raise typer.Exit(1)


@app.command()
def deliveries(
    which: Id,
    status: Annotated[str | None, typer.Option(help="retrying, failed, given_up or delivered.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Lines.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the deliveries of an endpoint in the last 30 days, last attempted first.

    \b
    Examples:
      kinolog webhooks deliveries "Media server" --status given_up
    """
    with connected() as api:
        row = found(api, which)
        rows = api.pages(resource("webhooks", row["id"], "deliveries"), limit=limit, status=status)
    table(
        rows,
        {
            "delivery": lambda r: r["id"],
            "event": lambda r: r["event_type"],
            "status": lambda r: r["status"],
            "attempt": lambda r: r["attempt_number"],
            "answer": lambda r: r["response_status"] or r["error_message"],
            "time": lambda r: r["attempted_at"],
            "next": lambda r: r["next_retry_at"] or "-",
        },
        as_json=as_json,
        empty="nothing was sent to this endpoint in the last 30 days",
    )


@app.command()
def retry(
    which: Id,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The id of a delivery.")],
    as_json: AsJson = False,
) -> None:
    """Send a notice again, once and at once, under the same id.

    \b
    Examples:
      kinolog webhooks retry "Media server" 5d6c7b8a-1f2e-5a3d-9c4b-7e8f9a0b1c2d
    """
    with connected() as api:
        row = found(api, which)
        api.post(resource("webhooks", row["id"], "deliveries", delivery, "retry"))
    done("it is sent again", as_json=as_json)


@app.command()
def redeliver(
    which: Id,
    since: Annotated[datetime | None, typer.Option(help="The first event to send again, by its time (UTC).")] = None,
    position: Annotated[int | None, typer.Option(min=0, help="The first notice to send again, by its position.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send everything from a time or position on again, in order: for a new endpoint, or one that lost what it had.

    \b
    Examples:
      kinolog webhooks redeliver "Media server" --since 2026-03-08
    """
    if (since is None) == (position is None):
        raise UsageFault("give --since or --position")
    wanted = {"since": f"{since.isoformat()}Z" if since else None, "position": position}
    with connected() as api:
        row = found(api, which)
        api.post(resource("webhooks", row["id"], "redeliver"), wanted)
    done(f"{row['name']} goes on from there", as_json=as_json)

"""`kinolog videos`, `visibility`, `timeline`, `workers`, `audit`: the read models, through the admin API."""

from typing import Annotated, Literal

import typer

from infra.commands.people import user_of
from infra.commands.support.admin_api import connected, resource
from infra.commands.support.output import AsJson, AsOf, Row, done, duration, fields, moment, note, short, size, table

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")]


def videos(
    video: Annotated[
        str | None, typer.Argument(help="One video: its slug, id, or eight characters of its id; default: all.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only videos in this state.")] = None,
    search: Annotated[str | None, typer.Option(help="Only videos whose title or description has these words.")] = None,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the videos of the catalog, newest first, or show one.

    \b
    Examples:
      kinolog videos
      kinolog videos --status failed --json
      kinolog videos big-buck-bunny
      kinolog videos --as-of 2026-11-20T18:00
    """
    with connected() as api:
        if video is not None:
            fields(api.get(resource("videos", video), as_of=as_of), as_json=as_json)
            return
        rows = api.pages("/api/videos", limit=limit, status=status, q=search, as_of=as_of)
    table(
        rows,
        {
            "video": lambda row: short(row["video_id"]),
            "slug": lambda row: row.get("slug"),
            "status": lambda row: row.get("status"),
            "visibility": lambda row: row.get("visibility"),
            "duration": lambda row: duration(row.get("duration_ms")),
            "size": lambda row: size(row.get("size_bytes")),
            "title": lambda row: row.get("title"),
        },
        as_json=as_json,
        empty="no videos; send one with: kinolog ingest FILE",
    )


def visibility(
    video: Annotated[str, typer.Argument(help="The video's slug, its id, or eight characters of its id.")],
    visibility: Annotated[Literal["public", "unlisted", "private"], typer.Argument(help="public, unlisted or private.")],
    roles: Annotated[list[str] | None, typer.Option("--role", help="People with this role may watch; repeatable.")] = None,
    users: Annotated[list[str] | None, typer.Option("--user", help="This person may watch: name or id; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide who may watch a video: anybody, anybody with its address, or some people.

    Everybody with the right to read watches private videos as well; --role and --user name others, and replace those named before.

    \b
    Examples:
      kinolog visibility big-buck-bunny unlisted
      kinolog visibility big-buck-bunny private --role viewer --user anna
    """
    with connected() as api:
        people = {"roles": roles or [], "users": [user_of(api, who) for who in users or ()]}
        api.patch(resource("videos", video), {"visibility": visibility, **people})
    done("changed", as_json=as_json)


def timeline(
    video: Annotated[str, typer.Argument(help="The video's slug, its id, or eight characters of its id.")],
    limit: Limit = 1000,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show every event of a video, its cause, and its position on the log.

    \b
    Examples:
      kinolog timeline big-buck-bunny
      kinolog timeline 9b6c1d04 --json | jq '.[].type'
    """
    with connected() as api:
        rows = api.pages(resource("videos", video, "timeline"), limit=limit, as_of=as_of)
    table(
        rows,
        {
            "time": lambda row: moment(row["time"], milliseconds=True),
            "event": lambda row: row["type"].removeprefix("kinolog."),
            "at": lambda row: f"{row['topic']}/{row['partition']}/{row['offset']}",
            "what": lambda row: row.get("summary"),
            "id": lambda row: short(row["id"]),
            "cause": lambda row: short(row.get("causationid")),
        },
        as_json=as_json,
        empty="nothing happened to it yet",
    )
    if not as_json and len(rows) == limit:
        note(f"only the first {limit} events; more with --limit")


def workers(as_of: AsOf = None, as_json: AsJson = False) -> None:
    """List the workers: abilities, current work, reason for getting no jobs, last sign of life.

    --json adds every encoder tried at the worker's start, with the reason where it does not work.

    \b
    Examples:
      kinolog workers
      kinolog workers --json
    """
    with connected() as api:
        rows = api.pages("/api/workers", limit=10_000, as_of=as_of)
    table(
        rows,
        {
            "worker": lambda row: short(row["worker_id"]),
            "name": lambda row: row.get("name"),
            "status": _state,
            "pool": lambda row: row.get("pool"),
            "jobs": lambda row: ", ".join(map(short, row.get("job_ids") or ())),
            "last heartbeat": lambda row: moment(row.get("heartbeat_at")),
            "cards": lambda row: ", ".join(map(_card, row.get("cards") or ())),
            "encodes with": lambda row: ", ".join((row.get("capabilities") or {}).get("encoders") or ()),
        },
        as_json=as_json,
        empty="no workers; start one with: kinolog worker",
    )


def _state(row: Row) -> str:
    """Return a worker's presence, and why, or until when, it gets no jobs."""
    state = str(row["presence"])
    if row["quarantined_until"]:
        state += f" until {moment(row['quarantined_until'])}"
    if paused := row["paused"]:
        whole = "its pool is " if paused["of"] == "pool" else ""
        state += f" ({whole}{'drained' if paused['drain'] else 'paused'}: {paused['reason']})"
    return state


def _card(card: Row) -> str:
    memory = size(card["vram_bytes"]) if card["vram_bytes"] else None
    return " ".join(filter(None, (card["model"], memory, card["driver"])))


def audit(
    actor: Annotated[str | None, typer.Option(help="user:ID or token:ID, or user for all of them.")] = None,
    action: Annotated[str | None, typer.Option(help="As video.edited, or video for all of them.")] = None,
    about: Annotated[str | None, typer.Option("--object", help="Id of a video, job, worker, pool, failure or app.")] = None,
    since: Annotated[str | None, typer.Option(help="Not before this time, as 2026-11-20T18:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List what people and their tokens did, and what was refused, newest first.

    --json adds the values of changed fields, before and after, and the position on the log.

    \b
    Examples:
      kinolog audit
      kinolog audit --actor token:bootstrap --since 2026-11-20T18:00Z
      kinolog audit --action video.edited --json | jq '.[] | {before, values}'
    """
    wanted = {"actor": actor, "action": action, "object": about, "since": since, "until": until}
    with connected() as api:
        rows = api.pages("/api/audit", limit=limit, as_of=as_of, **wanted)
    table(
        rows,
        {
            "time": lambda row: moment(row["time"]),
            "actor": lambda row: row.get("actor"),
            "action": lambda row: row["action"],
            "object": lambda row: f"{row['object_kind']} {short(row['object_id'])}",
            "change": _change,
        },
        as_json=as_json,
        empty="nobody did anything yet",
    )


def _change(row: Row) -> str:
    """Return the fields that an action changed, and its reason."""
    before = row.get("before") or {}
    changes = [f"{name}: {before.get(name) or '–'} → {value}" for name, value in row["values"].items()]
    return ", ".join(filter(None, [*changes, row["reason"]]))

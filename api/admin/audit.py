"""For administrators: who did what."""

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from api.admin.models import Page
from api.admin.services import Given, reading
from api.services import Cursor, Minimum, after_of, cursor_of
from events.text import Line
from projections import audit

routes = APIRouter(tags=["audit"])
CSV = "text/csv; charset=utf-8"
_COLUMNS = (
    *("time", "actor", "client", "action", "object_kind", "object_id", "refused", "reason", "values", "before"),
    *("topic", "partition", "offset", "id"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@routes.get("/api/audit", response_model=Page[audit.Shown], responses={200: {"content": {"text/csv": {}}}})
async def show_audit(
    given: Given,
    response: Response,
    actor: Annotated[Line | None, Query(max_length=250, description="`user:ID`, or `user` for all of them.")] = None,
    action: Annotated[Line | None, Query(max_length=100, description="`video.edited`, or `video` for all of them.")] = None,
    object: Annotated[Line | None, Query(max_length=300, description="Id of a video, job, worker, pool, failure or app.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not before this time.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Entries on a page.")] = 100,
    cursor: Cursor = None,
    format: Annotated[Literal["json", "csv"], Query(description="`csv` for a spreadsheet.")] = "json",
    minimum: Minimum = None,
) -> Page[audit.Shown] | Response:
    """List what people and their tokens did, and what was refused, newest first."""
    async with reading(given, response, "audit", minimum) as connection:
        entries = await audit.page(
            connection,
            limit=limit,
            after=after_of(cursor),
            actor=actor,
            action=action,
            object_id=object,
            since=since,
            until=until,
        )
    following = cursor_of(entries[-1].time, entries[-1].id) if len(entries) == limit else None
    if format == "csv":
        return Response(_csv(entries), media_type=CSV, headers={"Content-Disposition": 'attachment; filename="audit.csv"'})
    return Page(items=list(entries), next=following)


def _csv(entries: Iterable[audit.Shown]) -> str:
    """Return entries as CSV; values of fields are JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for entry in entries:
        writer.writerow(_cell(getattr(entry, name)) for name in _COLUMNS)
    return text.getvalue()


def _cell(value: object) -> str:
    """Return the text of a cell. A spreadsheet would run one that begins like a formula: it gets an apostrophe."""
    text = "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode().strip('"')
    return f"'{text}" if text.startswith(_FORMULA) else text

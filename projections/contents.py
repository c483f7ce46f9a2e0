"""Contents: the upload that holds each content; table `contents`. The log decides which upload came first, not a process."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.contents import ContentEvent
from events.envelope import Recorded
from events.topics import CONTENTS
from events.videos import VideoUploaded
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once

_SQL = load(Path(__file__).with_name("contents.sql"))


@table_row
class Content:
    """A content and its holder. `seen`: see `projections.folding.repeats`."""

    sha256: str
    video_id: str
    upload: VideoUploaded
    seen: tuple[str, ...] = ()


def keys_of(recorded: Recorded[ContentEvent]) -> Collection[tuple[str]]:
    """Return the key of the content."""
    return ((recorded.envelope.data.sha256,),)


@once
def evolve(content: Content | None, recorded: Recorded[ContentEvent]) -> Content | None:
    """Fold topic `contents`: a claim counts if it names the current holder."""
    event = recorded.envelope.data
    if content is None:  # even if the claim names a holder unknown to this log
        return Content(event.sha256, event.video_id, event.upload)
    if event.instead_of != content.video_id:
        return content
    return replace(content, video_id=event.video_id, upload=event.upload)


PROJECTION = Projection("contents", (CONTENTS,), (Table("contents", Content, ("sha256",), keys_of, evolve),), _SQL["create"])
_CONTENT = TypeAdapter(Content)


async def holder(connection: AsyncConnection[Any], sha256: str) -> VideoUploaded | None:
    """Return the upload that holds a content, if any."""
    cursor = await connection.execute(_SQL["holder"], {"sha256": sha256})
    found = await cursor.fetchone()
    return _CONTENT.validate_json(found[0]).upload if found else None

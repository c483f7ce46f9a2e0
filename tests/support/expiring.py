"""A tiny process with a deadline: an upload expires an hour after it began, or after its video was edited last."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from events.envelope import Envelope, Recorded
from events.topics import VIDEOS
from events.videos import UploadAbandoned, UploadStarted, VideoEdited, VideoEvent
from processors.agents.process import Decision, Process, Rule
from projections.folding.fold import Projection, Table, table_row
from tests.support.footage import id_of

LIFE = timedelta(hours=1)
UNDECIDED = "SELECT video_id FROM expiring.uploads WHERE NOT ended AND until <= %(now)s"


@table_row
class Upload:
    """One upload. `until` is its deadline."""

    video_id: str
    until: datetime
    ended: bool = False


def keys_of(recorded: Recorded[VideoEvent]) -> Sequence[tuple[str]]:
    """Return the upload that the event is about."""
    event = recorded.envelope.data
    return ((event.video_id,),) if isinstance(event, UploadStarted | VideoEdited | UploadAbandoned) else ()


def evolve(row: Upload | None, recorded: Recorded[VideoEvent]) -> Upload | None:
    """Put the deadline off, by the event's time; an end is an end."""
    envelope = recorded.envelope
    if isinstance(envelope.data, UploadAbandoned):
        return replace(row, ended=True) if row else None
    until = envelope.time + LIFE
    if row is None:
        return Upload(envelope.data.video_id, until)
    return row if row.ended or until <= row.until else replace(row, until=until)


def decide(row: Upload, now: datetime) -> Decision | None:
    """Give an upload up whose deadline has passed."""
    if row.ended or now < row.until:
        return None
    abandoned = UploadAbandoned(video_id=row.video_id, object_key=f"sources/{row.video_id}", reason="expired")
    return Decision("expire", facts=((abandoned, row.video_id),))


TABLE = Table("uploads", Upload, ("video_id",), keys_of, evolve)
CREATE = "CREATE TABLE uploads (video_id text PRIMARY KEY, until timestamptz NOT NULL, ended boolean NOT NULL)"
PROCESS = Process(Projection("expiring", (VIDEOS,), (TABLE,), CREATE), "kinolog/test", (Rule(TABLE, decide, undecided=UNDECIDED),))


def started(video_id: str, time: datetime, number: int = 0) -> Envelope[VideoEvent]:
    """Return the beginning of an upload."""
    event = UploadStarted(video_id=video_id, filename="a.mp4", object_key=f"sources/{video_id}", size_bytes=1)
    return Envelope(id_of(f"{video_id}/{number}"), "test", video_id, time, event, video_id)


def edited(video_id: str, time: datetime, number: int) -> Envelope[VideoEvent]:
    """Return an edit, which puts the deadline off."""
    return Envelope(id_of(f"{video_id}/{number}"), "test", video_id, time, VideoEdited(video_id=video_id, title="b"), video_id)

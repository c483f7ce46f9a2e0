"""Keys of the object store: each names its object and thereby the owner. Pure; no other module builds a key.

sources/{video_id}/original              the file that was uploaded
videos/{video_id}/{job_id}/{epoch}/…     output of one attempt at a job; its prefix is its fence
videos/{video_id}/…                      the final manifests, beside them
archive/topic=…/day=…/…                  stretches of the log, see `projections.history.archive`
snapshots/…                              snapshots of dispatcher state, to avoid replaying the log
reruns/{job_id}/{id}/…                   output of a rerun on this machine, deleted at its end
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import UUID

from events.envelope import Value
from events.media import ObjectRef

SOURCES, MADE, ARCHIVED, SNAPSHOTS, RERUNS = FOLDERS = ("sources/", "videos/", "archive/", "snapshots/", "reruns/")


def source_key(video_id: str) -> str:
    """Return the key of the source; the name of a person's file is never part of a key."""
    return f"{SOURCES}{video_id}/original"


def begun_at(key: str) -> tuple[str, datetime] | None:
    """Return the video of a source's key and the time in its id, a UUIDv7; None for any other key.

    >>> begun_at("sources/01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04/original")[1].isoformat()
    '2024-10-09T04:49:31.002000+00:00'
    """
    video_id = key.removeprefix(SOURCES).removesuffix("/original")
    try:
        id_ = UUID(video_id)
    except ValueError:
        return None
    if id_.version != 7 or key != source_key(video_id):
        return None
    return video_id, datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


def video_prefix(video_id: str) -> str:
    """Return the prefix of all output of a video."""
    return f"{MADE}{video_id}/"


def attempt_prefix(video_id: str, job_id: str, epoch: int) -> str:
    """Return the prefix of one attempt's output. No other attempt may write objects below it, or name them as its own.

    >>> attempt_prefix("v", "j", 2)
    'videos/v/j/2/'
    """
    return f"{video_prefix(video_id)}{job_id}/{epoch}/"


def archive_key(topic: str, day: date, partition: int, first: int, following: int) -> str:
    """Return the key of an archived stretch of a partition, from offset `first` to before `following`."""
    return f"{ARCHIVED}topic={topic}/day={day}/{partition}-{first:020}-{following:020}.parquet"


def snapshot_key(group: str, number: int) -> str:
    """Return the key of a snapshot of a partition owner's state."""
    return f"{SNAPSHOTS}{group}-{number}.ndjson.zst"


def rerun_prefix(job_id: str, id_: str) -> str:
    """Return the prefix of a rerun's output."""
    return f"{RERUNS}{job_id}/{id_}/"


def objects_in(value: object) -> Iterator[ObjectRef]:
    """Yield every object named in a value, at any depth and in no order, so that a field added later cannot be forgotten."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ObjectRef):
            yield one
        elif isinstance(one, Value):
            waiting += vars(one).values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()

"""Keys of the object store: where each object lies, and so whose it is. Pure; no other module puts one together.

sources/{video_id}/original              the file that was uploaded
videos/{video_id}/{job_id}/{epoch}/…     what one attempt at a job made; its prefix is its fence
videos/{video_id}/…                      the final manifests, beside them
archive/topic=…/day=…/…                  stretches of the log, see `projections.history.archive`
snapshots/…                              what the dispatcher need not read again
reruns/{job_id}/{id}/…                   what a rerun on this machine makes, deleted at its end
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import UUID

from events.envelope import Value
from events.media import ObjectRef

SOURCES, MADE, ARCHIVED, SNAPSHOTS, RERUNS = FOLDERS = ("sources/", "videos/", "archive/", "snapshots/", "reruns/")


def source_key(video_id: str) -> str:
    """Return where the source lies; no name of a person's file is ever part of a key."""
    return f"{SOURCES}{video_id}/original"


def begun_at(key: str) -> tuple[str, datetime] | None:
    """Return the video of a source's key, and the time in its id, a UUIDv7; None for another key.

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
    """Return the prefix of everything that was made of a video."""
    return f"{MADE}{video_id}/"


def attempt_prefix(video_id: str, job_id: str, epoch: int) -> str:
    """Return the prefix of everything that one attempt made. No other attempt may write, or name as its own, what lies below.

    >>> attempt_prefix("v", "j", 2)
    'videos/v/j/2/'
    """
    return f"{video_prefix(video_id)}{job_id}/{epoch}/"


def archive_key(topic: str, day: date, partition: int, first: int, following: int) -> str:
    """Return where a stretch of a partition is archived, from offset `first` to before `following`."""
    return f"{ARCHIVED}topic={topic}/day={day}/{partition}-{first:020}-{following:020}.parquet"


def snapshot_key(group: str, number: int) -> str:
    """Return where the state of a partition's owner is put aside."""
    return f"{SNAPSHOTS}{group}-{number}.ndjson.zst"


def rerun_prefix(job_id: str, id_: str) -> str:
    """Return the prefix of what a rerun would make."""
    return f"{RERUNS}{job_id}/{id_}/"


def objects_in(value: object) -> Iterator[ObjectRef]:
    """Yield every object that a value names, however deep, in no order: a field that is added later cannot be forgotten."""
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

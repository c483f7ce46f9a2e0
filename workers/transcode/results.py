"""`result.json`: the output of a job, stored beside the objects themselves; verification reads it back."""

from events.envelope import Value
from events.media import ObjectRef, Rendition, Subtitle
from workers.attempts.work import Work

MAX_BYTES = 128 * 2**20
"""All segments of two days of sound take 17 MiB; those of pictures encoded in one piece take three times as much."""


class ResultDocument(Value):
    """Everything that a job put into the store, with the warnings for a person."""

    renditions: tuple[Rendition, ...] = ()
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()
    warnings: tuple[str, ...] = ()


async def store_result(document: ResultDocument, work: Work) -> ObjectRef:
    """Put the document into the store, as the last object of its job."""
    data = document.model_dump_json(exclude_none=True).encode()
    return await work.store.put_bytes(f"{work.prefix}result.json", data, "application/json")

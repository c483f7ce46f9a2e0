"""`result.json`: what a job made, beside the objects themselves; verification reads it back."""

from events.envelope import Value
from events.media import ObjectRef, Rendition, Subtitle
from workers.work import Work

MAX_BYTES = 128 * 2**20
"""All segments of two days of sound take 17 MiB, of pictures that are encoded in one piece three times as much."""


class ResultDocument(Value):
    """Everything that a job put into the store, and what a person should know about it."""

    renditions: tuple[Rendition, ...] = ()
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()
    warnings: tuple[str, ...] = ()


async def store_result(document: ResultDocument, work: Work) -> ObjectRef:
    """Put the document into the store, the last object of its job."""
    data = document.model_dump_json(exclude_none=True).encode()
    return await work.store.put_bytes(f"{work.prefix}result.json", data, "application/json")

"""`result.json`: what a job made, beside the objects themselves; verification reads it back."""

from events.envelope import Value
from events.media import ObjectRef, Rendition, Subtitle

MAX_BYTES = 16 * 2**20


class ResultDocument(Value):
    """Everything that a job put into the store."""

    renditions: tuple[Rendition, ...] = ()
    thumbnail: ObjectRef | None = None
    subtitles: tuple[Subtitle, ...] = ()

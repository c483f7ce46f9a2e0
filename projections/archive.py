"""Archive: which stretches of the log stand in the object store; table `segments`."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from events.archive import SegmentArchived
from events.envelope import Event, Recorded
from events.topics import ARCHIVE
from projections.fold import Projection, Table, table_row
from projections.queries import load

PREFIX = "archive/"
MANIFEST = f"{PREFIX}manifest.json"
"""Lists every file, for those who have only the object store."""

_SQL = load(Path(__file__).with_name("archive.sql"))


@table_row
class Segment:
    """A file of the archive; see `events.archive.SegmentArchived`."""

    topic: str
    partition: int
    first: int
    next: int
    records: int
    key: str
    size_bytes: int
    sha256: str
    chain: str
    time_first: datetime | None = None
    time_last: datetime | None = None


def keys_of(recorded: Recorded[Event]) -> Collection[tuple[str, int, int]]:
    """Return the place and offset at which the file begins."""
    event = recorded.envelope.data
    return ((event.topic, event.partition, event.first),) if isinstance(event, SegmentArchived) else ()


def evolve(segment: Segment | None, recorded: Recorded[Event]) -> Segment | None:
    """Keep the first that was told of a beginning."""
    event = recorded.envelope.data
    if segment is not None or not isinstance(event, SegmentArchived):
        return segment
    return Segment(**{name: getattr(event, name) for name in SegmentArchived.model_fields})


PROJECTION = Projection(
    "archive", (ARCHIVE,), (Table("segments", Segment, ("topic", "partition", "first"), keys_of, evolve),), _SQL["create"]
)

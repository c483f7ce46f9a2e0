"""The archive: topic `archive`, one partition. Each fact names a file in the object store that holds a stretch of one partition.

The facts are the archive's manifest and its proof: `chain` continues from segment to segment of a partition.
"""

from pydantic import AwareDatetime

from events.envelope import Event


class SegmentArchived(Event, type="kinolog.segment.archived.v1"):
    """The Parquet object `key` holds the records of `topic`/`partition` from offset `first` (included) to `next` (excluded).

    `sha256` is the hash of the file. `chain` (hex) is the partition's hash chain after the last record. It covers the bytes
    of every record since offset zero and does not depend on the cuts between segments. `time_first` and `time_last` are the
    earliest and latest event times; None when no record is an event. `unpacked_bytes` is the total length of the records.
    A fact about a stretch that several files hold replaces those files: the small files of a day were joined.
    """

    topic: str
    partition: int
    first: int
    next: int
    records: int
    key: str
    size_bytes: int
    sha256: str
    chain: str
    time_first: AwareDatetime | None = None
    time_last: AwareDatetime | None = None
    unpacked_bytes: int | None = None


ArchiveEvent = SegmentArchived

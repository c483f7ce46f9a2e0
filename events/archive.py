"""The archive: topic `archive`, one partition. Each fact is a file in the object store that holds a stretch of one partition.

The facts are the archive's manifest, and its proof: `chain` goes from segment to segment of a partition.
"""

from pydantic import AwareDatetime

from events.envelope import Event


class SegmentArchived(Event, type="kinolog.segment.archived.v1"):
    """The records of `topic`/`partition` from offset `first` (incl.) to `next` (excl.) stand in the object `key`, Parquet.

    `sha256` is that of the file. `chain` is the hash chain of the partition after the last record, hex: over the bytes of
    every record since offset zero, however they were cut into segments. `time_first` and `time_last` are the earliest and
    the latest time of an event; None when no record was one. `unpacked_bytes` is how long the records are together.
    A fact about a stretch that several files hold replaces them: small files of a day were joined.
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

"""History as tables: writes a stretch of one partition as a Parquet file and reads it back, byte for byte.

One row is one record. Its columns are `record` (the bytes on the log), the envelope's members, and one typed struct per
event type for SQL (`video_uploaded.size_bytes`). A record that is not an event has only `record`.

A hash chain runs over the records of a partition: `SHA-256(previous link, offset, record)`. Each row holds the first bytes
of the link after it. An altered, dropped, repeated or reordered record is found at the row where the chain breaks.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime, TypeAdapter

from events.codec import decode
from events.envelope import Envelope, Event
from events.errors import InvalidEvent
from events.topics import TOPICS

NO_LINK = bytes(32)
"""The chain before offset zero."""
LINK_BYTES = 8
"""Bytes of a link that a row holds: enough to name the row. A segment's fact has the whole final link."""
READ_RECORDS = 1000

Record = tuple[int, bytes]
"""Offset and value."""

_MOMENT = pa.timestamp("us", tz="UTC")
_ENVELOPE = [
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
    pa.field("id", pa.string()),
    pa.field("type", pa.string()),
    pa.field("source", pa.string()),
    pa.field("subject", pa.string()),
    pa.field("time", _MOMENT),
    pa.field("correlationid", pa.string()),
    pa.field("causationid", pa.string()),
    pa.field("actor", pa.string()),
    pa.field("client", pa.string()),
    pa.field("record", pa.binary()),
    pa.field("link", pa.binary(LINK_BYTES)),
]
_MEMBERS = ("id", "source", "subject", "time", "correlationid", "causationid", "actor", "client")
_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), datetime: _MOMENT, AwareDatetime: _MOMENT}
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


class BrokenChain(Exception):
    """A record contradicts the hash chain; the message names it."""


def next_link(link: bytes, offset: int, value: bytes) -> bytes:
    """Return the link after one more record."""
    return hashlib.sha256(link + offset.to_bytes(8, "big") + value).digest()


def column_of(event: type[Event]) -> str:
    """Return the column name for an event's typed values: `kinolog.video.uploaded.v1` -> `video_uploaded`."""
    return "_".join(event.TYPE.split(".")[1:-1]).replace("-", "_")


@cache
def schema_of(topic: str) -> pa.Schema:
    """Return the columns of a topic's files."""
    return pa.schema([*_ENVELOPE, *(pa.field(column_of(event), _struct(event)) for event in TOPICS[topic].events)])


def columns_of(row: type[Any]) -> pa.Schema:
    """Return the columns for rows of a dataclass."""
    return pa.schema([pa.field(name, _arrow(annotation)) for name, annotation in get_type_hints(row).items()])


def _struct(event: type[Event]) -> pa.DataType:
    return pa.struct([pa.field(name, _arrow(field.annotation)) for name, field in event.model_fields.items()])


def _arrow(annotation: Any) -> pa.DataType:
    """Return a field's column type: scalars keep theirs, limited ones too; anything else becomes text."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if get_origin(annotation) is Annotated:
        return _arrow(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return _arrow(kinds[0]) if len(kinds) == 1 else pa.string()
    return pa.string()


class Parsed(NamedTuple):
    """A record and its event, None when it cannot be decoded."""

    offset: int
    value: bytes
    envelope: Envelope[Event] | None


def parsed(records: Iterable[Record]) -> list[Parsed]:
    """Parse records, in order."""
    return [Parsed(offset, value, _event_of(value)) for offset, value in records]


def _event_of(value: bytes) -> Envelope[Event] | None:
    try:
        return decode(value)
    except InvalidEvent:
        return None


def write_segment(topic: str, partition: int, records: Sequence[Parsed], link: bytes) -> tuple[bytes, bytes]:
    """Return records as a Parquet file, and the link after them; `link` is the one before them."""
    columns: dict[str, list[Any]] = {field.name: [None] * len(records) for field in schema_of(topic)}
    typed = {event.TYPE: columns[column_of(event)] for event in TOPICS[topic].events}
    columns["partition"] = [partition] * len(records)
    columns["offset"] = [record.offset for record in records]
    columns["record"] = [record.value for record in records]
    for row, (offset, value, envelope) in enumerate(records):
        link = next_link(link, offset, value)
        columns["link"][row] = link[:LINK_BYTES]
        if envelope is None:
            continue
        event = envelope.data
        columns["type"][row] = event.TYPE
        for name in _MEMBERS:
            columns[name][row] = getattr(envelope, name)
        if event.TYPE in typed:
            texts = _texts(type(event))
            typed[event.TYPE][row] = {name: _text(value) if name in texts else value for name, value in event}
    file = io.BytesIO()
    table = pa.table(columns, schema=schema_of(topic))
    repeating = [name for name in table.column_names if name not in _UNIQUE]
    pq.write_table(table, file, compression="zstd", compression_level=6, use_dictionary=repeating)
    return file.getvalue(), link


_UNIQUE = ("offset", "id", "time", "record", "link")
"""Columns whose values rarely repeat: a dictionary would only take space."""


@cache
def _texts(event: type[Event]) -> frozenset[str]:
    """Return the fields whose column is text. The columns alone decide: a value never has another type than its column."""
    return frozenset(field.name for field in _struct(event) if field.type == pa.string())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _JSON.dump_json(value, exclude_none=True).decode()


def read_segment(file: bytes) -> Iterator[Record]:
    """Yield offset and value of each record, exactly as on the log."""
    return chain.from_iterable(read_batches(file, READ_RECORDS))


def read_batches(file: bytes, records: int) -> Iterator[list[Record]]:
    """Yield the same in lists of at most `records`: small lists are still in the processor's cache when folded."""
    return _rows(file, ("offset", "record"), records)


def _rows(file: bytes, columns: Sequence[str], rows: int) -> Iterator[list[Any]]:
    """Yield lists of at most `rows` tuples of `columns`. Unpacks no more at a time: a small file may unpack to large records."""
    with pq.ParquetFile(io.BytesIO(file)) as opened:
        for batch in opened.iter_batches(rows, columns=columns, use_threads=False):  # threads slow down two columns
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def milliseconds(time: datetime) -> int:
    """Return a time in Kafka's form: milliseconds since 1970, rounded down."""
    return int(time.timestamp() * 1000)


def first_after(file: bytes, time: datetime) -> int:
    """Return the offset of the first event later than `time`, to the millisecond. Such an event must exist."""
    table = pq.read_table(io.BytesIO(file), columns=["offset", "time"])
    times = pc.cast(pc.cast(table["time"], pa.timestamp("ms", tz="UTC"), safe=False), pa.int64())
    later = pc.greater(times, milliseconds(time))
    return int(table["offset"][pc.index(later, True).as_py()].as_py())


def check_segment(file: bytes, link: bytes, where: str) -> bytes:
    """Return the link after the file's records. Raises BrokenChain at the first row whose stored link differs."""
    for offset, value, expected in chain.from_iterable(_rows(file, ("offset", "record", "link"), READ_RECORDS)):
        link = next_link(link, offset, value)
        if link[:LINK_BYTES] != expected:
            raise BrokenChain(f"{where}/{offset}: the record is not the one that was archived, or not at its position")
    return link

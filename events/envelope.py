"""One event on the log: CloudEvents 1.0, structured JSON mode, one record = one line of JSON.

A payload is a frozen pydantic class, named in the past participle, with its wire type:
`class VideoUploaded(Event, type="kinolog.video.uploaded.v1")`. Only the wire type is stored, so classes may be renamed
or moved. An `Envelope` wraps the payload; reading it from a topic gives a `Recorded`, with its position.
"""

from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

REGISTRY: dict[str, type["Event"]] = {}
"""Wire type -> payload class, for every declared event."""

new_tuple = tuple.__new__
"""Makes an `Envelope` or a `Recorded` in half the time of the class's own `__new__`, which is written in Python."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def _bound(schema: Any) -> None:
    """Add limits to the integers of a core schema that have none."""
    if isinstance(schema, dict):
        if schema.get("type") == "int":
            schema.setdefault("ge", INT_MIN)
            schema.setdefault("le", INT_MAX)
        for inner in schema.values():
            _bound(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _bound(inner)


class Value(BaseModel):
    """A frozen value inside an event. Unknown fields of newer writers are ignored; integers fit into 64 bits."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Bound every integer: PostgreSQL and Parquet cannot store a larger one, and it must not stop a reader."""
        schema = handler(source)
        _bound(schema)
        return schema


class Event(Value):
    """A fact or a request: the `data` of an envelope."""

    TYPE: ClassVar[str]

    def __init_subclass__(cls, *, type: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if type in REGISTRY:
            raise TypeError(f"{type} is declared twice: {REGISTRY[type].__name__} and {cls.__name__}")
        cls.TYPE = type
        REGISTRY[type] = cls


E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


class Envelope(NamedTuple, Generic[E_co]):
    """An event with its identity.

    `id` is a UUIDv7 for a new fact and `derived_id(causation, index)` for a derived one, so that a retry writes the
    same id. `subject` is the stream id = the Kafka key. `causationid` is the id of the event that caused this one;
    `correlationid` is the id of the first in the chain. `time` is aware UTC. `actor` names the cause outside the log, and
    `client` is a keyed hash of its address; see `events.actors`.
    """

    id: str
    source: str
    subject: str
    time: datetime
    data: E_co
    correlationid: str
    causationid: str | None = None
    actor: str | None = None
    client: str | None = None


Record = tuple[bytes, bytes, int]
"""An encoded event: its subject, the bytes of `events.codec.encode`, its time in milliseconds since 1970."""


class Recorded(NamedTuple, Generic[E_co]):
    """An envelope with its position on the log."""

    topic: str
    partition: int
    offset: int
    envelope: Envelope[E_co]


def derived_id(causation_id: str, index: int) -> str:
    """Return the id of the `index`-th event derived from `causation_id`: uuid5, the same at every retry."""
    return str(uuid5(UUID(causation_id), str(index)))


def program(source: str) -> str:
    """Return the actor of events that a program decides by itself: `system:dispatcher` for the source `kinolog/dispatcher`."""
    return f"system:{source.rpartition('/')[2]}"


def derive(cause: Envelope[Event], index: int, *, data: E, subject: str, source: str, time: datetime) -> Envelope[E]:
    """Return the `index`-th event that follows from `cause`, in the same correlation; the program is its actor."""
    return Envelope(derived_id(cause.id, index), source, subject, time, data, cause.correlationid, cause.id, program(source))

"""Envelope <-> bytes: CloudEvents structured JSON, one line per event.

Every value that can be encoded decodes to the same value. Any other input raises InvalidEvent on both sides and no other
error, so bad bytes become a dead letter and never stop a reader. No text on the log has a NUL: PostgreSQL cannot store one.

msgspec reads the envelope and leaves `data` as bytes; pydantic reads `data` as its type. Each byte is parsed once.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError, SchemaValidator, core_schema

from events import (  # noqa: F401  (declares the types)
    access,
    archive,
    failures,
    jobs,
    people,
    progress,
    settings,
    telemetry,
    videos,
    workers,
)
from events.actors import is_actor
from events.envelope import REGISTRY, Envelope, Event, new_tuple
from events.errors import InvalidEvent
from events.upcasters import UPCASTERS, upcast

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
HEADERS = [("content-type", CONTENT_TYPE)]

is_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
"""Matches an id in its form on the log."""
_UUID = b"00000000-0000-0000-0000-000000000000"
_HEX_DIGITS = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_REASON_CHARACTERS_MAX = 500
ID_MAX = 300
"""Maximum characters of an id or pool name. A longer one does not fit into a PostgreSQL index and would stop a reader."""

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX)]


class Wire(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The members of the JSON document; `data` stays undecoded bytes."""

    specversion: Literal["1.0"]
    id: str
    source: _Text
    type: str
    subject: _Text
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    correlationid: _Text
    causationid: str | None = None
    actor: _Short | None = None
    client: _Short | None = None
    data: msgspec.Raw


write_wire = msgspec.json.Encoder().encode
read_wire = msgspec.json.Decoder(Wire).decode
"""Bytes <-> members, for callers that need no payload. Both raise msgspec's errors; `read_wire` reads all that `decode` accepts."""


def encode(envelope: Envelope[Event]) -> bytes:
    """Return one line of JSON, without the newline.

    Raises InvalidEvent for a value that could not be read back: an id that is no UUID, a time without a zone, a text with
    a NUL or a lone surrogate (half a character), an id that is too long.
    """
    id, source, subject, time, data, correlationid, causationid, actor, client = envelope
    if not is_uuid(id) or (causationid is not None and not is_uuid(causationid)):
        raise _not_a_uuid(id)
    if not (source and subject and correlationid):
        raise InvalidEvent("not an envelope: source, subject and correlationid must not be empty")
    if time.utcoffset() is None:
        raise InvalidEvent("not an envelope: time has no zone")
    if actor is not None and not is_actor(actor):
        raise InvalidEvent("not an envelope: actor must be node, or user:ID, token:ID, worker:ID, system:NAME")
    _refuse_long_ids(data, data.TYPE)
    try:
        record = write_wire(
            Wire(
                specversion="1.0",
                id=id,
                source=source,
                type=data.TYPE,
                subject=subject,
                time=time,
                correlationid=correlationid,
                causationid=causationid,
                actor=actor,
                client=client,
                data=msgspec.Raw(data.__pydantic_serializer__.to_json(data, exclude_none=True)),
            )
        )
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise InvalidEvent(f"{data.TYPE} cannot be written: {error}"[:_REASON_CHARACTERS_MAX]) from error
    if b"\\" in record:
        _refuse_nul(record)
    return record


def decode(record: bytes) -> Envelope[Event]:
    """Return the event in a record, upcast to its current version.

    Raises InvalidEvent with the reason: not JSON, not an envelope, an unknown type, or data that the type refuses.
    """
    wire_type = None
    try:
        wire = read_wire(record)
        if b"\\" in record:
            _refuse_nul(record)
        id, causationid, time, wire_type = wire.id, wire.causationid, wire.time, wire.type
        if not is_uuid(id) or (causationid is not None and not is_uuid(causationid)):
            raise _not_a_uuid(id)
        if time.tzinfo is not UTC:
            time = time.astimezone(UTC)
        raw = bytes(wire.data)
        if wire_type in UPCASTERS:
            wire_type, old = upcast(wire_type, msgspec.json.decode(raw))
            raw = msgspec.json.encode(old)
        if (event := REGISTRY.get(wire_type)) is None:
            raise InvalidEvent(f"unknown type {wire_type!r}"[:_REASON_CHARACTERS_MAX])
        data = _validator(event).validate_json(raw)
        return new_tuple(
            Envelope, (id, wire.source, wire.subject, time, data, wire.correlationid, causationid, wire.actor, wire.client)
        )
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"not an envelope: {error}"[:_REASON_CHARACTERS_MAX]) from error
    except msgspec.DecodeError as error:
        raise InvalidEvent(f"not JSON: {error}"[:_REASON_CHARACTERS_MAX]) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidEvent(f"data of {wire_type}: {where}: {first['msg']}"[:_REASON_CHARACTERS_MAX]) from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise InvalidEvent(f"not an envelope: {error}"[:_REASON_CHARACTERS_MAX]) from error


def decode_all(records: Sequence[bytes]) -> list[Envelope[Event]]:
    """Decode each record as `decode` does, in two thirds of the time: payloads of one type are validated together.

    Raises InvalidEvent when one of them cannot be decoded. Call `decode` on each record to find which one, and why.
    """
    lines = b"\n".join(records)
    if b"\\" in lines:
        _refuse_nul(lines)
    try:
        wires = [read_wire(record) for record in records]
        types = {wire.type for wire in wires}
        if not UPCASTERS.keys().isdisjoint(types):
            return [decode(record) for record in records]
        causes = [wire.causationid for wire in wires if wire.causationid is not None]
        if not (_are_uuids([wire.id for wire in wires]) and _are_uuids(causes)):
            raise InvalidEvent("not an envelope: an id is not a UUID")
        return [
            new_tuple(
                Envelope,
                (
                    wire.id,
                    wire.source,
                    wire.subject,
                    wire.time if wire.time.tzinfo is UTC else wire.time.astimezone(UTC),
                    data,
                    wire.correlationid,
                    wire.causationid,
                    wire.actor,
                    wire.client,
                ),
            )
            for wire, data in zip(wires, _payloads(wires, types), strict=True)
        ]
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise InvalidEvent(f"not an envelope: {error}"[:_REASON_CHARACTERS_MAX]) from error


def _payloads(wires: Sequence[Wire], types: Collection[str]) -> Iterable[Event]:
    """Return the payloads of some envelopes. Each is a JSON value, so the payloads of one type join into a JSON list."""
    if len(types) == 1:
        return _list_of(*types)(b"[%b]" % b",".join([wire.data for wire in wires]))
    found = {name: iter(_list_of(name)(b"[%b]" % b",".join([wire.data for wire in wires if wire.type == name]))) for name in types}
    return (next(found[wire.type]) for wire in wires)


def _list_of(wire_type: str) -> Callable[[bytes], list[Event]]:
    """Return the validator of a JSON list of an event's payloads."""
    return _list_validator(REGISTRY[wire_type]).validate_json


@cache
def _list_validator(event: type[Event]) -> SchemaValidator:
    return SchemaValidator(core_schema.list_schema(_limited(event)), _use_prebuilt=False)


@cache
def _validator(event: type[Event]) -> SchemaValidator:
    return SchemaValidator(_limited(event), _use_prebuilt=False)


def _limited(event: type[Event]) -> CoreSchema:
    """Return an event's schema in which ids, nested ones included, have at most ID_MAX characters."""

    def limit(schema: Any, model: type[BaseModel] = event) -> None:
        if isinstance(schema, dict):
            model = schema["cls"] if schema.get("type") == "model" else model
            for name, field in schema["fields"].items() if schema.get("type") == "model-fields" else ():
                inner = field["schema"] if _is_id(name, model) else {}
                while isinstance(inner, dict) and inner.get("type") != "str":
                    inner = inner.get("schema")
                if inner:
                    inner.setdefault("max_length", ID_MAX)
            for inner in schema.values():
                limit(inner, model)
        elif isinstance(schema, list | tuple):
            for inner in schema:
                limit(inner, model)

    schema = deepcopy(event.__pydantic_core_schema__)
    limit(schema)
    return schema


def _refuse_long_ids(value: BaseModel, wire_type: str) -> None:
    """Raise InvalidEvent for an id with more than ID_MAX characters, also in nested values."""
    ids, inner = _ids_of(type(value))
    for name in ids:
        if len(getattr(value, name) or "") > ID_MAX:
            raise InvalidEvent(f"{wire_type} cannot be written: {name} has more than {ID_MAX} characters")
    for name in inner:
        held = getattr(value, name)
        for one in held if isinstance(held, tuple) else (held,):
            if isinstance(one, BaseModel):
                _refuse_long_ids(one, wire_type)


@cache
def _ids_of(model: type[BaseModel]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a model's id fields, and its fields whose values may contain ids."""
    fields = model.model_fields
    ids = tuple(name for name, field in fields.items() if _is_id(name, model) and field.annotation in (str, str | None))
    return ids, tuple(name for name, field in fields.items() if any(any(_ids_of(one)) for one in _models_in(field.annotation)))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models named in a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _is_id(name: str, model: type[BaseModel]) -> bool:
    """Return whether a field may be a key: an id, a pool's or an app's name, or the digest of an event's own content."""
    return name.endswith("_id") or name in ("pool", "app") or (name == "sha256" and issubclass(model, Event))


def _are_uuids(ids: Sequence[str]) -> bool:
    """Return whether all ids match `is_uuid`, in a third of the time."""
    return ",".join(ids).encode().translate(_HEX_DIGITS) == b",".join([_UUID] * len(ids))


def _not_a_uuid(id: str) -> InvalidEvent:
    return InvalidEvent(f"not an envelope: {'causationid' if is_uuid(id) else 'id'} is not a UUID")


def _refuse_nul(record: bytes) -> None:
    """Raise InvalidEvent when a text in the JSON has a NUL. JSON escapes a NUL, so a search of the bytes finds it."""
    if _NUL.search(record):
        raise InvalidEvent("a text has a NUL character")

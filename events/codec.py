"""Envelope <-> bytes: CloudEvents structured JSON, one line per event.

What can be encoded can be decoded, to the same value; what cannot is InvalidEvent on both sides and nothing else, so
that bad bytes become a dead letter and never stop a reader. No text on the log has a NUL: PostgreSQL cannot keep one.
"""

import re
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from events import jobs, progress, videos, workers  # noqa: F401  (declares the types)
from events.envelope import REGISTRY, Envelope, Event
from events.errors import InvalidEvent
from events.upcasters import UPCASTERS, upcast

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
HEADERS = [("content-type", CONTENT_TYPE)]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_TEXTS = ("source", "subject", "correlationid")
_REASON_CHARACTERS_MAX = 500


def encode(envelope: Envelope[Event]) -> bytes:
    """Return one line of JSON, without the newline.

    Raises InvalidEvent for what could not be read back: an id that is no UUID, a time without a zone, a text with a
    NUL or with half a character (a lone surrogate).
    """
    data = envelope.data
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": data.TYPE,
        "subject": envelope.subject,
        "time": envelope.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "correlationid": envelope.correlationid,
    }
    if envelope.causationid is not None:
        document["causationid"] = envelope.causationid
    _check(document)
    if envelope.time.utcoffset() is None:
        raise InvalidEvent("time has no zone")
    try:
        document["data"] = orjson.Fragment(data.__pydantic_serializer__.to_json(data, exclude_none=True))
        record = orjson.dumps(document)
    except (PydanticSerializationError, orjson.JSONEncodeError) as error:
        raise InvalidEvent(f"{data.TYPE} cannot be written: {error}"[:_REASON_CHARACTERS_MAX]) from error
    _refuse_nul(record)
    return record


def decode(record: bytes) -> Envelope[Event]:
    """Return the event of a record, upcast to today's version.

    Raises InvalidEvent with the reason: not JSON, not an envelope, an unknown type, or data that its type refuses.
    """
    wire_type = None
    try:
        document = orjson.loads(record)
        if not isinstance(document, dict):
            raise InvalidEvent(f"not an envelope: JSON of type {type(document).__name__}")
        _refuse_nul(record)
        wire_type, data = document["type"], document["data"]
        _check(document)
        time = datetime.fromisoformat(document["time"])
        if time.tzinfo is not UTC:
            if time.tzinfo is None:
                raise InvalidEvent("not an envelope: time has no zone")
            time = time.astimezone(UTC)
        if wire_type in UPCASTERS:
            wire_type, data = upcast(wire_type, data)
        if wire_type not in REGISTRY:
            raise InvalidEvent(f"unknown type {wire_type!r}"[:_REASON_CHARACTERS_MAX])
        return Envelope(
            document["id"],
            document["source"],
            document["subject"],
            time,
            REGISTRY[wire_type].__pydantic_validator__.validate_python(data),
            document["correlationid"],
            document.get("causationid"),
        )
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidEvent(f"data of {wire_type}: {where}: {first['msg']}"[:_REASON_CHARACTERS_MAX]) from error
    except KeyError as error:
        raise InvalidEvent(f"not an envelope: no {error.args[0]!r}"[:_REASON_CHARACTERS_MAX]) from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise InvalidEvent(f"not an envelope: {error}"[:_REASON_CHARACTERS_MAX]) from error


def _check(document: dict[str, Any]) -> None:
    """Raise InvalidEvent unless the envelope's own fields have the right types."""
    if document["specversion"] != "1.0":
        raise InvalidEvent("not an envelope: specversion is not '1.0'")
    if not _is_uuid(document["id"]):
        raise InvalidEvent("not an envelope: id is not a UUID")
    for name in _TEXTS:
        text = document[name]
        if not isinstance(text, str) or not text:
            raise InvalidEvent(f"not an envelope: {name} is not a text")
    causation = document.get("causationid")
    if causation is not None and not _is_uuid(causation):
        raise InvalidEvent("not an envelope: causationid is not a UUID")


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _refuse_nul(record: bytes) -> None:
    """Raise InvalidEvent when a text in the JSON has a NUL; the JSON escapes it, so one look at the bytes tells."""
    if b"\\u0000" in record and _NUL.search(record):
        raise InvalidEvent("a text has a NUL character")

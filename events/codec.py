"""Envelope <-> bytes: CloudEvents structured JSON, one line per event."""

from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from events import jobs, progress, videos, workers  # noqa: F401  (declares the types)
from events.envelope import REGISTRY, Envelope, Event
from events.errors import InvalidEvent
from events.upcasters import UPCASTERS, upcast

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
HEADERS = [("content-type", CONTENT_TYPE)]


def encode(envelope: Envelope[Event]) -> bytes:
    """Return one line of JSON, without the newline."""
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
    document["data"] = orjson.Fragment(data.__pydantic_serializer__.to_json(data, exclude_none=True))
    return orjson.dumps(document)


def decode(record: bytes) -> Envelope[Event]:
    """Return the event of a record, upcast to today's version.

    Raises InvalidEvent with the reason: not JSON, not an envelope, an unknown type, or data that its type refuses.
    """
    try:
        document = orjson.loads(record)
        wire_type = document["type"]
        data = document["data"]
        if wire_type in UPCASTERS:
            wire_type, data = upcast(wire_type, data)
        event = REGISTRY[wire_type].__pydantic_validator__.validate_python(data)
        time = datetime.fromisoformat(document["time"])
        if time.tzinfo is not UTC:
            time = time.astimezone(UTC)
        return Envelope(
            document["id"],
            document["source"],
            document["subject"],
            time,
            event,
            document["correlationid"],
            document.get("causationid"),
        )
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidEvent(f"data of {wire_type}: {where}: {first['msg']}") from error
    except KeyError as error:
        reason = f"unknown type {wire_type!r}" if error.args == (document.get("type"),) else f"no {error.args[0]!r}"
        raise InvalidEvent(f"not an event of this system: {reason}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidEvent(f"not an envelope: {error}") from error

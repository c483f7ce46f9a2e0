"""JSON Schemas and the AsyncAPI document of every event, derived from the classes. All pure, but for the examples on disk."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from events.compatibility import Schema
from events.envelope import Event
from events.topics import FOR_EVER, TOPICS, Topic

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = Path("events/schemas")
EXAMPLES = Path("events/examples")
ENVELOPE = SCHEMAS / "envelope.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def all_events() -> list[type[Event]]:
    """Return every event on a topic, in the order of the topics' declarations."""
    return [event for topic in TOPICS.values() for event in topic.events]


def examples_of(event: type[Event], root: Path = ROOT) -> list[Path]:
    """Return the example files of an event, relative to the repository."""
    return sorted(path.relative_to(root) for path in (root / EXAMPLES / event.TYPE).glob("*.json"))


class _Plain(GenerateJsonSchema):
    """Leaves out the titles that only repeat the fields' names, and OpenAPI's `discriminator`.

    JSON Schema has no such keyword, AsyncAPI's is a string, and the constant `kind` of each choice has the same meaning.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: Any) -> Schema:
        return {name: value for name, value in super().tagged_union_schema(schema).items() if name != "discriminator"}


def schema_of(event: type[Event]) -> Schema:
    """Return the JSON Schema of an event's `data`, as readers see it."""
    schema = event.model_json_schema(schema_generator=_Plain)
    return {"$schema": DIALECT, "$id": f"{event.TYPE}.json"} | schema


def envelope_schema() -> Schema:
    """Return the JSON Schema of the envelope around every event: CloudEvents 1.0 with two extensions."""
    text = {"type": "string", "minLength": 1}
    identity = {"type": "string", "format": "uuid"}
    return {
        "$schema": DIALECT,
        "$id": ENVELOPE.name,
        "title": "Envelope",
        "description": "CloudEvents 1.0, structured JSON mode. One record on the log is one line of it.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": identity | {"description": "UUIDv7 of a new fact, uuid5 of a derived one; a retry repeats it."},
            "source": text | {"description": "The process that speaks."},
            "type": text | {"description": "Wire type with its version."},
            "subject": text | {"description": "Id of the stream; also the record's key."},
            "time": {"type": "string", "format": "date-time"},
            "correlationid": text | {"description": "Id of the first event of the chain."},
            "causationid": identity | {"description": "Id of the event that led to this one; absent on the first."},
            "actor": text | {"description": "Cause: node, or user:ID, token:ID, worker:ID, system:NAME; absent on older events."},
            "client": text | {"description": "Keyed hash of the address that a request came from, in its period."},
            "data": {"type": "object"},
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "correlationid", "data"],
    }


def asyncapi(root: Path = ROOT) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of every topic."""
    operations: dict[str, Any] = {}
    for topic in TOPICS.values():
        for action, who in (("send", topic.producers), ("receive", topic.consumers)):
            operations[f"{action}-{topic.name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"{action.capitalize()}: {', '.join(who)}.",
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kinolog's log",
            "version": "1.0.0",
            "description": "Every topic and every event. Generated from events/topics.py by `kinolog docs`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": operations,
        "components": {"messages": {event.TYPE: _message(event, root) for event in all_events()}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    retention = {} if topic.retention_ms == FOR_EVER else {"retention.ms": topic.retention_ms}
    return {
        "address": topic.name,
        "description": f"{topic.description} Key: {topic.key}.",
        "messages": {event.TYPE: {"$ref": f"#/components/messages/{event.TYPE}"} for event in topic.events},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"cleanup.policy": ["delete"], **(retention or {"retention.ms": FOR_EVER})},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(event: type[Event], root: Path) -> dict[str, Any]:
    data = {"$ref": f"../{SCHEMAS}/{event.TYPE}.json"}
    message: dict[str, Any] = {
        "name": event.TYPE,
        "title": event.__name__,
        "summary": summary_of(event),
        "contentType": "application/cloudevents+json",
        "correlationId": {"location": "$message.payload#/correlationid"},
        "payload": {
            "allOf": [
                {"$ref": f"../{ENVELOPE}"},
                {"type": "object", "properties": {"type": {"const": event.TYPE}, "data": data}},
            ]
        },
    }
    if examples := examples_of(event, root):
        payload = json.loads((root / examples[0]).read_text())
        message["examples"] = [{"name": examples[0].stem, "payload": payload}]
    return message


def summary_of(event: type[Event]) -> str:
    """Return the first sentence of an event's docstring."""
    words = " ".join((event.__doc__ or "").split())
    return words.split(". ")[0].rstrip(".") + "."

"""Everything that is written from the code instead of by hand: schemas, the AsyncAPI document, the reference pages.

`kinolog docs` writes them, a test compares. A schema is never overwritten with one that cannot read the past.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from events.compatibility import Schema, incompatibilities
from events.envelope import Event
from events.errors import KinologError
from events.topics import FOR_EVER, TOPICS, Topic

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = Path("events/schemas")
EXAMPLES = Path("events/examples")
ENVELOPE = SCHEMAS / "envelope.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class IncompatibleSchemas(KinologError):
    """An event changed in a way that its past on the log cannot be read."""


def documents(root: Path = ROOT) -> dict[Path, str]:
    """Return {path relative to the repository: text} of every generated file. Reads only the examples."""
    from infra.reference import pages as reference

    files: dict[Path, str] = {ENVELOPE: _json(envelope_schema())}
    for event in all_events():
        files[SCHEMAS / f"{event.TYPE}.json"] = _json(schema_of(event))
    files[Path("docs/asyncapi.json")] = _json(asyncapi(root))
    pages = {
        "events": reference.events_page(root),
        "topics": reference.topics_page(),
        "kinds": reference.kinds_page(),
        "settings": reference.settings_page(),
        "cli": reference.cli_page(),
        "metrics": reference.metrics_page(),
    }
    return files | {Path(f"docs/reference/{name}.md"): text for name, text in pages.items()}


def stale(root: Path = ROOT) -> list[Path]:
    """Return the generated files that are missing, differ, or belong to no event any more."""
    wanted = documents(root)
    differing = [path for path, text in wanted.items() if not _same(root / path, text)]
    return sorted({*differing, *_leftover(root, wanted)})


def write(root: Path = ROOT, *, force: bool = False) -> list[Path]:
    """Write what is stale; return the paths written or removed.

    Raises IncompatibleSchemas, and writes nothing, when the past could not be read any more. `force` writes even so:
    right only for an event that is on nobody's log yet.
    """
    if not force and (refusals := refused(root)):
        lines = "\n".join(f"  {line}" for line in refusals)
        raise IncompatibleSchemas(
            f"these changes need a new version of the event (.v2) and an upcaster, see CONTRIBUTING.md:\n{lines}"
        )
    wanted = documents(root)
    changed = stale(root)
    for path in changed:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path])
        else:
            (root / path).unlink()
    return changed


def refused(root: Path = ROOT) -> list[str]:
    """Return one sentence for each change since the stored schemas that the past does not survive."""
    lines = []
    today = {event.TYPE: schema_of(event) for event in all_events()}
    for path in sorted((root / SCHEMAS).glob("*.json")):
        if path.name == ENVELOPE.name:
            continue
        if path.stem not in today:
            lines.append(f"{path.stem}: the event was removed; old ones are still on the log")
            continue
        found = incompatibilities(json.loads(path.read_text()), today[path.stem])
        lines += [f"{path.stem}: {line}" for line in found]
    return lines


def all_events() -> list[type[Event]]:
    """Return every event on a topic, in the order of the topics' declarations."""
    return [event for topic in TOPICS.values() for event in topic.events]


def examples_of(event: type[Event], root: Path = ROOT) -> list[Path]:
    """Return the example files of an event, relative to the repository."""
    return sorted(path.relative_to(root) for path in (root / EXAMPLES / event.TYPE).glob("*.json"))


class _Plain(GenerateJsonSchema):
    """Leaves out the titles that only repeat the fields' names, and OpenAPI's `discriminator`.

    JSON Schema has no such keyword, AsyncAPI's is a string, and the constant `kind` of each choice says the same.
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
    """Return the JSON Schema of what goes around every event: CloudEvents 1.0 with two extensions."""
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


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _leftover(root: Path, wanted: Iterable[Path]) -> list[Path]:
    """Return schema files that belong to no event."""
    stored = {path.relative_to(root) for path in (root / SCHEMAS).glob("*.json")}
    return sorted(stored - set(wanted))

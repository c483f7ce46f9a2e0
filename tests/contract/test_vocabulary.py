"""The vocabulary is whole: each event has one topic, a schema and an example, and its past stays readable."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from events import (
    access,
    archive,
    contents,
    days,
    deliveries,
    failures,
    hosts,
    jobs,
    notices,
    people,
    progress,
    settings,
    streams,
    telemetry,
    videos,
    viewers,
    webhooks,
    workers,
)
from events.codec import ID_MAX, decode, encode
from events.envelope import REGISTRY, Event, Value
from events.errors import InvalidEvent
from events.topics import EVENT_ID, TOPIC_OF, TOPICS, partition_for
from infra.cli import app
from infra.reference import files, schemas
from infra.reference.pages import type_name, values_in
from processors.registry import FOLDS

EXAMPLES = sorted((schemas.ROOT / schemas.EXAMPLES).rglob("*.json"))
EVENTS = schemas.all_events()
_TOPICS = dict.fromkeys(topic for fold in FOLDS.values() for topic in fold.topics)
FOLDED = [event for topic in _TOPICS if topic.key != EVENT_ID for event in topic.events]
COMMAND = typer.main.get_command(app)
SEGMENT = r"kinolog\.[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_is_read_by_todays_code_and_written_back_alike(path: Path) -> None:
    document = json.loads(path.read_text())
    envelope = decode(json.dumps(document).encode())
    assert path.parent.name == document["type"], "an example lies in the folder of its type"
    if document["type"] == envelope.data.TYPE:  # an upcast one is written as today's
        assert json.loads(encode(envelope)) == document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_example_has_the_key_of_its_topic(path: Path) -> None:
    document = json.loads(path.read_text())
    key = TOPIC_OF[document["type"]].key
    assert document["subject"] == (document["id"] if key == EVENT_ID else document["data"][key])


def test_examples_are_connected_stories() -> None:
    documents = [json.loads(path.read_text()) for path in EXAMPLES]
    ids = {document["id"] for document in documents}
    assert len(ids) == len(documents)
    caused = [document for document in documents if "causationid" in document]
    assert caused
    assert all(document["causationid"] in ids for document in caused)
    by_id = {document["id"]: document for document in documents}
    for document in caused:
        assert document["time"] >= by_id[document["causationid"]]["time"]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_every_event_has_a_schema_and_an_example(event: type[Event]) -> None:
    assert (schemas.ROOT / schemas.SCHEMAS / f"{event.TYPE}.json").exists(), "run: kinolog docs"
    assert schemas.examples_of(event), f"put one into events/examples/{event.TYPE}/"


def test_every_event_belongs_to_exactly_one_topic() -> None:
    on_topics = [event for topic in TOPICS.values() for event in topic.events]
    assert len(on_topics) == len(set(on_topics))
    assert {event.TYPE for event in on_topics} == set(REGISTRY)


def test_the_unions_of_the_streams_are_the_registry() -> None:
    unions = (
        *(videos.VideoEvent, jobs.JobRequest, jobs.JobFact, workers.WorkerEvent),
        *(failures.FailureEvent, settings.SettingEvent, people.PersonEvent, streams.StreamEvent),
        *(webhooks.WebhookEvent, deliveries.DeliveryEvent),
    )
    declared = {event for union in unions for event in get_args(union)} | {
        progress.ProgressEvent,
        telemetry.TelemetryEvent,
        archive.ArchiveEvent,
        contents.ContentEvent,
        notices.NoticePublished,
        access.AccessEvent,
        viewers.ViewerEvent,
        hosts.HostEvent,
        days.DayEvent,
    }
    assert declared == set(REGISTRY.values())


@pytest.mark.parametrize("event", FOLDED, ids=lambda event: event.TYPE)
def test_no_key_is_longer_than_an_index_of_postgresql_takes(event: type[Event]) -> None:
    key = TOPIC_OF[event.TYPE].key
    for path in schemas.examples_of(event):
        written = json.loads((schemas.ROOT / path).read_bytes())
        written["data"][key] = "x" * (ID_MAX + 1)
        with pytest.raises(InvalidEvent, match=f"{key}: String should have at most"):
            decode(json.dumps(written).encode())


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_names_follow_the_rules(event: type[Event]) -> None:
    assert re.fullmatch(SEGMENT, event.TYPE)
    assert event.__doc__ and event.__doc__ != Event.__doc__, "say what it means"
    assert TOPIC_OF[event.TYPE].key in (EVENT_ID, *event.model_fields)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_what_may_be_null_may_be_left_out(event: type[Event]) -> None:
    """Null is not written, so a field that may be null and has another default would not come back."""
    for model in _models_in(event):
        for name, field in model.model_fields.items():
            if type(None) in get_args(field.annotation):
                assert not field.is_required() and field.default is None, f"{model.__name__}.{name}"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)
def test_moments_have_a_zone(event: type[Event]) -> None:
    for model in _models_in(event):
        for name, field in model.model_fields.items():
            annotation = str(field.annotation)
            assert "datetime.datetime" not in annotation, f"{model.__name__}.{name}: use AwareDatetime"


def _models_in(model: type[Value]) -> list[type[Value]]:
    return [model, *values_in(model)]


def test_schemas_of_before_can_be_replaced_by_todays() -> None:
    assert files.refused() == [], "such changes need a .v2 and an upcaster; see CONTRIBUTING.md"


def test_generated_files_are_up_to_date() -> None:
    assert files.stale(COMMAND) == [], "run: kinolog docs"


def test_an_incompatible_schema_is_not_overwritten(tmp_path: Path) -> None:
    stored = tmp_path / schemas.SCHEMAS / "kinolog.video.archived.v1.json"
    stored.parent.mkdir(parents=True)
    schema = schemas.schema_of(videos.VideoArchived)
    schema["properties"]["reason"] = {"type": "string"}
    stored.write_text(json.dumps(schema))
    with pytest.raises(files.IncompatibleSchemas, match=r"archived\.v1: data\.reason: the field was removed"):
        files.write(COMMAND, tmp_path)
    assert files.write(COMMAND, tmp_path, force=True)
    assert files.write(COMMAND, tmp_path) == files.stale(COMMAND, tmp_path) == []


def test_a_removed_event_is_refused(tmp_path: Path) -> None:
    stored = tmp_path / schemas.SCHEMAS / "kinolog.video.exploded.v1.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    assert files.refused(tmp_path) == ["kinolog.video.exploded.v1: the event was removed; old ones are still on the log"]


def test_the_asyncapi_document_refers_to_what_exists() -> None:
    document = schemas.asyncapi()
    assert list(document["channels"]) == list(TOPICS)
    for reference in _references(document):
        target, _, pointer = reference.partition("#")
        inner: Any = document if not target else json.loads((schemas.ROOT / "docs" / target).read_text())
        for name in pointer.strip("/").split("/") if pointer else ():
            inner = inner[name]
        assert inner


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []


def test_requests_and_facts_of_a_pool_share_their_partition_number() -> None:
    assert TOPICS["job-requests"].partitions == TOPICS["jobs"].partitions
    assert [partition_for(key, 4) for key in ("default", "night", "gpu", "")] == [3, 3, 2, 0]


def test_types_are_named_in_words_of_json() -> None:
    assert type_name(int | None) == "integer"
    assert type_name(tuple[str, ...]) == "list of text"

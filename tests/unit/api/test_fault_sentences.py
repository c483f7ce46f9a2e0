"""Faults of a request are sentences with the field's human name; programs find the location beside them."""

from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, Field, ValidationError
from pydantic_core._pydantic_core import list_all_errors

from api import problems
from api.admin.settings import Wanted
from events.faults import name_of, pointer_of, sentence
from infra.runtime.settings import InvalidSettings, Settings
from producers.anonymity import Refused
from producers.reports import read
from tests.support.apps import client

NO_URLS = ("nonsense", "host:9001", "http://", "http://[::1", "http://host:port", "http://host:0", "http://a b:9001", "ftp://host")
CONTEXT = {"expected": "'a' or 'b'", "expected_tags": "'a', 'b'", "discriminator": "'kind'"}


@pytest.mark.parametrize("known", list_all_errors(), ids=lambda known: known["type"])
def test_every_fault_that_pydantic_knows_is_a_sentence(known: dict[str, Any]) -> None:
    """Also those that no model of today can have."""
    context = (known["example_context"] or {}) | CONTEXT
    fault = {"loc": ("body", "title"), "type": known["type"], "msg": known["example_message_python"], "ctx": context, "input": "x"}
    said = sentence(fault)
    assert said.startswith("the body " if known["type"] == "json_invalid" else "the title ") or known["type"] == "value_error"
    for foreign in (" should ", "Input", "body.", "dictionary", "instance of"):
        assert foreign not in said or known["type"] in ("is_instance_of", "dataclass_exact_type")


@pytest.mark.parametrize(
    ("where", "name", "pointer"),
    [
        (("body", "title"), "title", "#/title"),
        (("body",), "body", "#"),
        (("body", "parts", 2, "etag"), "ETag (3 in parts)", "#/parts/2/etag"),
        (("body", "cards", 0, "memory_bytes"), "memory in bytes (1 in cards)", "#/cards/0/memory_bytes"),
        (("body", "a/b~c d"), "a/b~c d", "#/a~1b~0c%20d"),
        (("query", "wait_s"), "wait in seconds", None),
        (("header", "x-min-position"), "header X-Min-Position", None),
    ],
)
def test_a_field_has_a_name_for_people_and_a_place_for_programs(
    where: tuple[int | str, ...], name: str, pointer: str | None
) -> None:
    assert (name_of(where), pointer_of(where)) == (name, pointer)


@pytest.mark.parametrize("value", [[1], {"a": 1}, None])
def test_a_value_that_may_be_of_several_types_is_named_as_a_person_would(value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Wanted.model_validate({"value": value})
    said = sentence(refused.value.errors()[0])
    assert said == "the value must be text"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"app_version": 1, "event_type": "job_started"}', "the app version must be text"),
        (b'{"app_version": "1", "event_type": "x", "duration_ms": 1.5}', "the duration in milliseconds must be a whole number"),
        (b'{"app_version": "1", "event_type": "x", "speed_factor": -1}', "the speed factor must be at least 0"),
        (b'{"app_version": "1", "event_type": "x", "speed_factor": 1e9}', "the speed factor must be at most 1000000"),
        (b'{"app_version": "1", "event_type": "x", "event_id": []}', "the event's id must be text"),
        (b'{"event_type": "x"}', "the app version is missing"),
        (b"[]", "the body must be a JSON object"),
    ],
)
def test_a_refused_report_is_explained_in_the_same_words(body: bytes, detail: str) -> None:
    with pytest.raises(Refused) as refused:
        read(body)
    assert str(refused.value) == detail


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("LEASE_S", "0", "KINOLOG_LEASE_S must be more than 0"),
        ("ADMIN_PORT", "http", "KINOLOG_ADMIN_PORT must be a whole number"),
        ("LOG_LEVEL", "loud", "KINOLOG_LOG_LEVEL must be 'debug', 'info', 'warning' or 'error'"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, here", "KINOLOG_TRUSTED_PROXIES (item 2) must be a network, such as 10.0.0.0/8"),
        ("KAFKA_CA", "/nowhere", "KINOLOG_KAFKA_CA names no file"),
        ("COLOUR", "red", "KINOLOG_COLOUR is not known here; leave it out"),
        *(("ADMIN_URL", wrong, "KINOLOG_ADMIN_URL must be a URL, such as http://host:9000") for wrong in NO_URLS),
        ("VAR_DIR", "", "KINOLOG_VAR_DIR is empty; name a folder"),
        ("S3_ENDPOINT", "ftp://here", "KINOLOG_S3_ENDPOINT must be a URL, such as http://host:9000"),
        ("POSTGRES_URL", "secret", "KINOLOG_POSTGRES_URL must be a URL, such as postgresql://user:password@host/database"),
        ("S3_ENDPOINT", "http://here", "s3_endpoint requires s3_secret_key, the secret key of that store"),
    ],
)
def test_a_refused_setting_is_explained_in_the_same_words(name: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_env({f"KINOLOG_{name}": value})
    assert str(refused.value) == sentence


async def test_a_refused_body_says_all_that_is_wrong() -> None:
    class Part(BaseModel):
        size_bytes: int = Field(ge=1)

    class Body(BaseModel):
        title: str = Field(max_length=5)
        taken_at: AwareDatetime
        parts: list[Part]

    app = FastAPI()
    problems.install(app)

    @app.post("/films")
    async def take(body: Body) -> None:
        """Take it."""

    async with client(app) as http:
        answer = await http.post("/films", json={"title": "Holiday", "taken_at": "yesterday", "parts": [{"size_bytes": 0}]})
    assert (answer.status_code, answer.headers["content-type"]) == (422, problems.TYPE)
    assert answer.json()["detail"] == "the title has more than 5 characters"
    assert answer.json()["errors"] == [
        {"where": "body.title", "pointer": "#/title", "what": "the title has more than 5 characters"},
        {
            "where": "body.taken_at",
            "pointer": "#/taken_at",
            "what": "the taken at must be a moment with its time zone, such as 2026-03-01T12:00:00Z",
        },
        {"where": "body.parts.0.size_bytes", "pointer": "#/parts/0/size_bytes", "what": "the size (1 in parts) must be at least 1"},
    ]

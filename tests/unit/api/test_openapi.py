"""The apps describe themselves, completely: every operation, its answers, its problems, and an example of each."""

from collections.abc import Iterator
from typing import Any

import pytest

from api import problems
from api.examples import PROGRESSING
from api.rights import ROUTES
from infra.runtime.clock import system_context
from projections.progress import VideoProgress
from tests.support.apps import client, make, refuse
from tests.support.every_app import APPS
from tests.support.people import home

ENVELOPED = "/api/v1/analytics/"
"""Paths whose refusals are `{success, error}`."""
OPEN = {"/health", "/ready"}
JOINING = {"/api/worker/register"}
"""Wants a secret of another kind."""
Operation = tuple[str, str, dict[str, Any]]


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def document_of(name: str) -> dict[str, Any]:
    document: dict[str, Any] = APPS[name]().openapi()
    return document


def cases() -> list[Any]:
    found = []
    for name in APPS:
        document = document_of(name)
        for method, path, operation in operations(document):
            found.append(pytest.param(document, path, operation, id=f"{name} {method} {path}"))
    return found


CASES = cases()


def has_example(document: dict[str, Any], node: Any, seen: frozenset[str] = frozenset()) -> bool:
    """Return whether there is an example somewhere in a schema, through its references."""
    if isinstance(node, list):
        return any(has_example(document, item, seen) for item in node)
    if not isinstance(node, dict):
        return False
    if "example" in node or "examples" in node:
        return True
    if (reference := node.get("$ref")) is not None and reference not in seen:
        target = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        return has_example(document, target, seen | {reference})
    return any(has_example(document, value, seen) for value in node.values())


@pytest.mark.parametrize(("document", "path", "operation"), CASES)
def test_every_operation_is_documented_with_its_answers_and_an_example(
    document: dict[str, Any], path: str, operation: dict[str, Any]
) -> None:
    assert operation["description"].strip().endswith((".", ")"))
    assert operation["tags"]
    for parameter in operation.get("parameters", []):
        assert parameter["schema"]
    if "requestBody" in operation:
        assert has_example(document, operation["requestBody"])
    for status, answer in operation["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            if int(status) >= 400 and path.startswith(ENVELOPED) and status != "429":  # it is said before the route is known
                assert media_type == "application/json"
                assert has_example(document, content)
            elif int(status) >= 400 and path not in OPEN:
                assert media_type == problems.TYPE
                assert content["example"]["status"] == int(status)
            elif media_type == "application/json" and path not in OPEN:
                assert content["schema"], "the answer is not described"
                assert has_example(document, content)


@pytest.mark.parametrize("name", APPS)
def test_a_refusal_is_described_by_our_own_models(name: str) -> None:
    """Another model of an app was called Fault, too, and took its place in the document."""
    schemas = document_of(name)["components"]["schemas"]
    for model in (problems.Problem, problems.Fault):
        assert set(schemas[model.__name__]["properties"]) == set(model.model_fields)


@pytest.mark.parametrize("name", APPS)
def test_references_lead_somewhere_and_ids_are_unique(name: str) -> None:
    document = document_of(name)
    schemas = document["components"]["schemas"]

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from references(item)

    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= set(schemas)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("document", "path", "operation"), CASES)
def test_what_wants_the_token_says_so(document: dict[str, Any], path: str, operation: dict[str, Any]) -> None:
    closed = document["info"]["title"] in ("Kinolog admin", "Kinolog workers") and path not in OPEN | JOINING
    assert ("security" in operation) == closed
    assert not closed or "401" in operation["responses"]


@pytest.mark.parametrize("authorisation", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "bearer\u00a0x"])
async def test_the_admin_app_is_closed_without_the_token(authorisation: str | None) -> None:
    app = make("admin")
    headers = {} if authorisation is None else {"Authorization": authorisation.encode("latin-1")}
    async with client(app, token=None) as http:
        for method, path, _ in operations(app.openapi()):
            if ROUTES[f"{method.upper()} {path}"] == "open":
                continue
            answer = await http.request(method, path.replace("{", "").replace("}", ""), headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "var" not in answer.text, "no path of the token"


async def test_an_app_without_a_token_lets_nobody_in() -> None:
    async with client(make("admin", home=home(refuse, lambda: system_context("test"))), token="") as http:
        assert (await http.get("/api/jobs", headers={"Authorization": "Bearer "})).status_code == 401


async def test_a_bug_is_a_problem_too() -> None:
    async with client(make("public", pool=None)) as http:
        answer = await http.get("/api/videos")
        assert (answer.status_code, answer.headers["content-type"]) == (500, problems.TYPE)
        assert "Traceback" not in answer.text and "NoneType" not in answer.text


def test_examples_are_true_to_their_models() -> None:
    VideoProgress.model_validate(PROGRESSING[200]["content"]["application/json"]["example"])

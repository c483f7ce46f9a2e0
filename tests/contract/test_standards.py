"""The contract files, read by the standards' own tools: AsyncAPI's parser, an OpenAPI validator, Ajv, promtool."""

import json
from pathlib import Path

import pytest

from infra.reference.schemas import EXAMPLES, ROOT, SCHEMAS
from infra.runtime import metrics
from tests.support import tools
from tests.support.every_app import APPS

MONITORING = ROOT / "infra" / "monitoring"


def test_the_asyncapi_document_is_valid_for_its_own_parser() -> None:
    assert tools.read("asyncapi", str(ROOT / "docs" / "asyncapi.json")) == []


@pytest.mark.parametrize("name", APPS)
def test_the_openapi_document_is_valid_and_so_are_its_examples(name: str) -> None:
    assert tools.read("openapi", given=json.dumps(APPS[name]().openapi())) == []


def test_every_schema_is_valid_and_every_example_is_valid_against_its_schema() -> None:
    schemas = [json.loads(path.read_text()) for path in sorted((ROOT / SCHEMAS).glob("*.json"))]
    examples = []
    for path in sorted((ROOT / EXAMPLES).rglob("*.json")):
        envelope = json.loads(path.read_text())
        name = f"{path.parent.name}/{path.stem}"
        examples += [[name, "envelope.json", envelope], [name, f"{envelope['type']}.json", envelope["data"]]]
    assert len(schemas) > 40 and len(examples) > 100
    assert tools.read("schemas", given=json.dumps({"schemas": schemas, "examples": examples})) == []


def test_promtool_finds_no_fault_in_rules_and_configuration() -> None:
    assert "rules found" in tools.promtool("check", "rules", str(MONITORING / "alerts.yml"))
    assert "is valid" in tools.promtool("check", "config", str(MONITORING / "prometheus.yml"))


def test_alerts_ring_when_they_should() -> None:
    assert "SUCCESS" in tools.promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_promtool_finds_no_fault_in_the_metrics_of_a_program() -> None:
    assert "error" not in tools.promtool("check", "metrics", given=metrics.exposition().decode())

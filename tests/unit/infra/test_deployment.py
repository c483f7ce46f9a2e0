"""Containers and monitoring say the same as the code: programs, ports, settings, metrics."""

import ast
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from infra.local.engine import access
from infra.local.engine.configs import kafka_properties, kafka_secrets, objects_properties
from infra.local.programs import Program, programs
from infra.runtime import metrics
from infra.runtime.settings import PREFIX, Settings
from tests.support.syntax import parsed

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "infra/compose/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "infra/compose/Dockerfile").read_text()
ENGINE = {"kafka", "postgres", "objects"}
ELSEWHERE = {
    "kafka_bootstrap": "kafka:9092",
    "postgres_url": "postgresql://kinolog@postgres/kinolog",
    "s3_endpoint": "http://objects",
    "s3_secret_key": "given",
}
PLATFORM = {program.name.removesuffix("-1"): program for program in programs(Settings.model_validate(ELSEWHERE))}


def port_of(program: Program) -> int:
    (port,) = program.ports.values()
    return port


def filled(value: str) -> str:
    """Return a value with its variables filled in as docker compose does; each has a default or must be given."""
    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda found: found[3] if found[2] == "-" else "given", value)


# --- containers -----------------------------------------------------------------------------------------------------


def test_every_program_is_a_service_and_every_service_a_program() -> None:
    assert set(SERVICES) == ENGINE | {"access"} | set(PLATFORM)


@pytest.mark.parametrize("name", PLATFORM)
def test_a_service_is_started_and_asked_as_its_program_is(name: str) -> None:
    service, program = SERVICES[name], PLATFORM[name]
    assert service["command"] == ["python", *program.command[1:]]
    assert f"127.0.0.1:{port_of(program)}/ready" in service["healthcheck"]["test"][-1]
    assert service["stop_grace_period"] == f"{program.stop_wait_s}s"
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert service["depends_on"] == dict.fromkeys(ENGINE, healthy) | {"access": done}
    for published in service.get("ports", []):
        assert published.split(":")[-2:] == [str(port_of(program))] * 2


def test_the_services_settings_are_settings_and_name_the_other_services() -> None:
    for name in PLATFORM:
        environment = {key: filled(value) for key, value in SERVICES[name]["environment"].items()}
        assert all(key.startswith(PREFIX) for key in environment)
        settings = Settings.from_env(environment)
        assert settings.kafka_bootstrap == f"kafka:{settings.kafka_port}"
        assert settings.s3_endpoint == f"http://objects:{settings.s3_port}"
        assert "@postgres:5432/kinolog" in settings.postgres_url.get_secret_value()
        assert settings.bind_host == "0.0.0.0"


def test_each_program_has_a_user_of_its_own_and_only_kafka_and_the_one_that_gives_rights_know_the_engines_password() -> None:
    provided = Settings.from_env({key: filled(value) for key, value in SERVICES["access"]["environment"].items()})
    assert provided.kafka_user == access.ENGINE and provided.kafka_mechanism == "SCRAM-SHA-512"
    given = dict(item.split("=") for item in SERVICES["access"]["environment"]["KINOLOG_KAFKA_PASSWORDS"].split(", "))
    assert set(given) == set(access.USERS) - {access.ENGINE} and len(set(given.values())) == len(given)
    assert all(value.startswith("${") and ":?" in value for value in given.values())
    for name in PLATFORM:
        environment = SERVICES[name]["environment"]
        user = environment.get("KINOLOG_KAFKA_USER")
        assert user == name
        assert environment.get("KINOLOG_KAFKA_PASSWORD") == given[name]
        assert "KINOLOG_KAFKA_PASSWORDS" not in environment
    assert [name for name, service in SERVICES.items() if "${KAFKA_PASSWORD" in json.dumps(service)] == ["access"]


def test_the_script_makes_every_secret_that_is_wanted_and_keeps_those_that_are_there(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_text((ROOT / "infra/compose/secrets.sh").read_text())
    made = []
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True)
        made.append((tmp_path / ".env").read_text())
    assert made[0] == made[1] and (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    secrets = dict(line.split("=") for line in made[0].splitlines())
    wanted = set(re.findall(r"\$\{(\w+):\?", (ROOT / "infra/compose/compose.yaml").read_text()))
    assert set(secrets) == wanted
    assert len(set(secrets.values())) == len(secrets) and all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets.values())


def test_what_people_reach_is_published_and_administration_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"public", "admin", "worker-app", "telemetry", "objects"}
    for name in ("admin", "objects"):
        assert all(port.startswith("127.0.0.1:") for port in published[name])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_healthy_restarted_bounded_and_not_root(name: str) -> None:
    service = SERVICES[name]
    if name == "access":  # it ends
        assert service["restart"] == "on-failure" and service["healthcheck"] == {"disable": True}
    else:
        assert service["healthcheck"]["test"][0] == "CMD" and service["restart"] == "unless-stopped"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["user"] not in ("root", "0", "")
    assert "no-new-privileges:true" in service["security_opt"]
    for volume in service["volumes"]:
        named, _, mounted = volume.partition(":")
        assert not mounted or named in COMPOSE["volumes"]


def test_no_secret_is_written_down() -> None:
    text = (ROOT / "infra/compose/compose.yaml").read_text()
    found = re.findall(r"^\s*(?:[\w.]*(?:SECRET|PASSWORD|TOKEN|credential)\w*)(?:: |=)(.*)$", text, re.MULTILINE)
    assert len(found) >= 4
    assert all(value.startswith("${") and ":?" in value for value in found if value != ">-")


def test_kafka_and_the_object_store_get_the_settings_of_the_local_engine() -> None:
    theirs = {"listeners", "advertised.listeners", "s3proxy.endpoint"}
    local = {
        "kafka": kafka_properties(Settings(kafka_controller_port=9093), Path("/data"), "given", provided=False),
        "objects": objects_properties(Settings(), Path("/data"), "given"),
    }
    for name, text in local.items():
        expected = dict(line.split("=", 1) for line in text.splitlines())
        found = dict(line.split("=", 1) for line in filled(COMPOSE["configs"][name]["content"]).splitlines())
        assert found.keys() == expected.keys()
        assert {key for key in found if found[key] != expected[key]} == theirs & found.keys()
        assert SERVICES[name]["configs"][0]["source"] == name
    assert filled(COMPOSE["configs"]["kafka-secrets"]["content"]) == kafka_secrets("given")
    assert f"@{SERVICES['kafka']['configs'][1]['target']}" in SERVICES["kafka"]["command"][-1]


def test_the_dockerfile_copies_what_there_is_pins_and_gives_up_root() -> None:
    stages = {name: image for image, name in re.findall(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, re.MULTILINE)}
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    assert all(":" in image and not image.endswith(":latest") for image in stages.values())
    for service in SERVICES.values():
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (ROOT / "infra/compose" / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()
    for target in ("engine", "platform"):
        stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert re.findall(r"^USER (\w+)$", stage, re.MULTILINE)[-1] == "kinolog"
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert all((ROOT / path).exists() for path in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied)
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path.split("/")[0] for path in copied} <= let_in


# --- monitoring -----------------------------------------------------------------------------------------------------

PROMETHEUS = yaml.safe_load((ROOT / "infra/monitoring/prometheus.yml").read_text())
ALERTS = yaml.safe_load((ROOT / "infra/monitoring/alerts.yml").read_text())
DASHBOARD = json.loads((ROOT / "infra/monitoring/grafana.json").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
}


@cache
def declared() -> dict[str, Metric]:
    """Return every sample's name with its metric."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {metric.name + suffix: metric for metric in metrics.REGISTRY.collect() for suffix in suffixes.get(metric.type, ("",))}


@cache
def labels_of() -> dict[str, set[str]]:
    """Return the labels of each of our metrics, by its name without suffix."""
    found = {}
    for value in vars(metrics).values():
        if hasattr(value, "_labelnames") and hasattr(value, "_name"):
            found[value._name] = set(value._labelnames)
    return found


@cache
def ever_set() -> set[str]:
    """Return the names of the metrics that some process gives a value."""
    sources = [path for folder in ("api", "infra", "processors", "workers") for path in (ROOT / folder).rglob("*.py")]
    used = set()
    for path in sources:
        if path.name != "metrics.py":
            for node in ast.walk(parsed(path.read_text())):
                if isinstance(node, ast.Attribute | ast.Name):
                    used.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return {value._name for name, value in vars(metrics).items() if name in used and hasattr(value, "_name")}


def test_every_program_is_asked_at_its_port() -> None:
    asked = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    assert asked == {name: [f"localhost:{port_of(program)}"] for name, program in PLATFORM.items()}
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_metrics_that_there_are_and_that_are_set(name: str) -> None:
    expression = EXPRESSIONS[name]
    known, labels, living = declared(), labels_of(), ever_set()
    used = re.findall(r"\b(?:kinolog|process)_\w+", expression)
    assert used or re.match(r"up\b", expression)
    for sample in used:
        assert sample in known, f"{sample} is not declared"
        if sample.startswith("kinolog_"):
            assert known[sample].name in living, f"no process sets {sample}"
    given = {label for sample in used for label in labels.get(known[sample].name, ())} | {"le", "job", "instance"}
    grouped = {label.strip() for found in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in found.split(",")}
    matched = set(re.findall(r"(\w+)=~?\"", expression))
    assert grouped | matched <= given
    assert expression.count("(") == expression.count(")")


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    wanted = {"ProcessDown", "BrokerAway", "ProjectionBehind", "DeadLetters", "NobodyWorks", "JobsFail"}
    assert wanted <= {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert all(rule["annotations"][part].endswith((".", "?")) for part in ("summary", "action"))


def test_panels_do_not_lie_upon_each_other_and_their_legends_are_labels() -> None:
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(corners)) == len(corners)
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in target["expr"] or label == "instance"

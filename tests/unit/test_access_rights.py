"""A program may write what its code makes: a topic names every program that appends to it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.topics import TOPIC_OF, TOPICS
from infra.local.engine.access import WRITES
from tests.support.syntax import parsed

ROOT = Path(__file__).parents[2]
EVENTS = {event.__name__: TOPIC_OF[event.TYPE].name for topic in TOPICS.values() for event in topic.events}
WRITERS = {
    "processors": "processors/**/*.py",
    "dispatcher": "processors/dispatch/*.py",
    "admin": "api/**/*.py",
    "worker-app": "api/**/*.py",
    "telemetry": "api/telemetry/*.py",
    "worker": "workers/**/*.py",
}
NOT_OF = {
    "processors": {"processors/dispatch"},  # the dispatcher's own
    "dispatcher": {"processors/dispatch/whatif.py"},  # it appends nothing
    "admin": {"api/worker", "api/telemetry"},
    "worker-app": {"api/admin", "api/telemetry"},
    "worker": {"workers/telemetry.py"},  # it reports over HTTP
}


def made_in(tree: ast.AST) -> Iterator[str]:
    """Yield the topics of the events that some code makes itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EVENTS:
            yield EVENTS[node.func.id]


def producers() -> dict[str, dict[str, set[str]]]:
    """Return, by module and function of `producers`, the topics of the events that it makes."""
    found = {}
    for path in (ROOT / "producers").glob("*.py"):
        functions = [node for node in parsed(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        found[f"producers.{path.stem}"] = {function.name: set(made_in(function)) for function in functions}
    return found


def topics_of(path: Path) -> set[str]:
    """Return the topics of the events that a module makes, itself or by a producer."""
    tree, made = parsed(path.read_text()), producers()
    topics, modules = set(made_in(tree)), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "producers":
            modules |= {alias.asname or alias.name: f"producers.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in made:
            topics |= {topic for alias in node.names for topic in made[node.module].get(alias.name, ())}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            topics |= made[modules[node.value.id]].get(node.attr, set())
    return topics


@pytest.mark.parametrize("program", WRITERS)
def test_a_program_may_write_what_its_code_makes(program: str) -> None:
    others = NOT_OF.get(program, set())
    paths = [
        path
        for path in ROOT.glob(WRITERS[program])
        if not others & {str(path.relative_to(ROOT)), str(path.parent.relative_to(ROOT))}
    ]
    made = {topic for path in paths for topic in topics_of(path)}
    may = {topic.name for topic in TOPICS.values() if set(WRITES[program]) & set(topic.producers)}
    assert made <= may
    assert may

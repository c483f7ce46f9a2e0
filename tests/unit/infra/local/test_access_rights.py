"""Who writes to a topic and who reads it, as `events.topics` says, is what the code does; and a program may write what it makes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import events.topics
from events.topics import TOPIC_OF, TOPICS, Topic
from infra.local.engine.access import WRITES
from processors import files
from processors.delivering import announcing
from processors.planning import process as planning
from projections.registry import PROJECTIONS
from tests.support.syntax import parsed

ROOT = Path(__file__).parents[4]
EVENTS = {event.__name__: TOPIC_OF[event.TYPE].name for topic in TOPICS.values() for event in topic.events}
WRITERS: dict[str, tuple[str, ...]] = {
    "admin app": ("api/admin/**/*.py", "api/access.py", "api/login/*.py", "api/refusals.py", "infra/settings/desk.py"),
    "announcing": ("processors/delivering/announcing.py",),
    "archiver": ("processors/archiver.py",),
    "chores": ("processors/chores.py",),
    "deliverer": ("processors/delivering/decide.py",),
    "dispatcher": ("processors/dispatch/decide.py", "processors/dispatch/decision.py", "processors/dispatch/owner.py"),
    "planning": ("processors/planning/*.py",),
    "public app": ("api/public/*.py", "api/refusals.py"),
    "telemetry app": ("api/telemetry/*.py", "api/refusals.py"),
    "worker app": ("api/worker/*.py", "api/access.py"),
    "workers": ("workers/**/*.py",),
    "kinolog telemetry import": ("infra/commands/telemetry.py",),
}
"""What appends to topics, by the names that topics give their producers, and its code."""
READERS: dict[str, tuple[str, ...]] = {
    "admin app": ("api/admin/**/*.py",),
    "deliverer": ("processors/delivering/deliverer.py",),
    "dispatcher": ("processors/dispatch/owner.py",),
    "every program": ("infra/settings/live.py",),
    "public app": ("api/public/*.py",),
    "worker app": ("api/worker/*.py",),
    "workers": ("workers/**/*.py",),
}
"""What reads topics beside projections, processes and the archiver, and its code: it reads the topics that this names."""
NOT_READ = {("dispatcher", "workers")}
"""It names them to write there."""
APPEND_NOTHING = {
    "processors/dispatch/whatif.py": "it decides again, in memory",
    "workers/telemetry.py": "it reports over HTTP",
}
CONSTANTS = {name for name, value in vars(events.topics).items() if isinstance(value, Topic)}


def made_in(tree: ast.AST) -> Iterator[str]:
    """Yield the topics of the events that some code makes itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EVENTS:
            yield EVENTS[node.func.id]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("offer", "_offer"):
            yield from (
                topic_named(argument.id) for argument in node.args if isinstance(argument, ast.Name) and argument.id in CONSTANTS
            )


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
    topics = set(made_in(tree))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "producers":
            modules |= {alias.asname or alias.name: f"producers.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in made:
            topics |= {topic for alias in node.names for topic in made[node.module].get(alias.name, ())}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            topics |= made[modules[node.value.id]].get(node.attr, set())
    return topics


def topic_named(constant: str) -> str:
    """Return the name of a topic whose constant in `events.topics` this is."""
    topic = getattr(events.topics, constant)
    assert isinstance(topic, Topic)
    return topic.name


def files_of(patterns: tuple[str, ...]) -> list[Path]:
    """Return the files of some code."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return [path for path in found if str(path.relative_to(ROOT)) not in APPEND_NOTHING]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_topic_names_every_program_that_writes_to_it(writer: str) -> None:
    made = {topic for path in files_of(WRITERS[writer]) for topic in topics_of(path)}
    assert made == {topic.name for topic in TOPICS.values() if writer in topic.producers}


def test_nobody_else_writes() -> None:
    known = {path for patterns in WRITERS.values() for path in files_of(patterns)}
    others = {
        path for path in files_of(("api/**/*.py", "processors/**/*.py", "workers/**/*.py", "infra/**/*.py")) if path not in known
    }
    assert {str(path.relative_to(ROOT)): made for path in others if (made := topics_of(path))} == {}
    assert {name for topic in TOPICS.values() for name in topic.producers} == WRITERS.keys()


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_a_topic_names_whatever_reads_it(topic: Topic) -> None:
    """Tools that read any topic when a person asks (`kinolog events`, `sql`, `replay`, `backup` …) are not named."""
    reads = {f"projection {name}" for name, projection in PROJECTIONS.items() if topic in projection.topics}
    reads |= {process.name for process in (planning.PROJECTION, announcing.PROJECTION, files.PROJECTION) if topic in process.topics}
    for reader, patterns in READERS.items():
        named = {name for path in files_of(patterns) for name in topics_imported(path)}
        reads |= {reader} if topic.name in named and (reader, topic.name) not in NOT_READ else set()
    assert {"archiver", *reads} == set(topic.consumers)


def topics_imported(path: Path) -> set[str]:
    """Return the topics that a module imports by their constants."""
    return {
        topic_named(alias.name)
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "events.topics"
        for alias in node.names
        if alias.name in CONSTANTS
    }


def test_every_producer_has_a_user() -> None:
    """Commands that write are the operator's."""
    assert {name for names in WRITES.values() for name in names} == {name for name in WRITERS if not name.startswith("kinolog ")}

"""A new event is seen: folds are typed over the events of their topics, and mypy lists those that say nothing about one."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest

from api.worker.decisions import ENDS
from events.codec import decode
from events.envelope import Event, Recorded
from events.jobs import AttemptEnd, RequestRefused, ResultRefused
from events.kinds import KINDS
from events.topics import TOPIC_OF, TOPICS
from infra.reference.schemas import ROOT, examples_of
from processors.delivering import announcing
from processors.planning import process as planning
from projections.folding.fold import Projection, Table
from projections.history import story
from projections.registry import PROJECTIONS
from tests.support.copies import PACKAGES, Copy, copy_of_the_code
from tests.support.syntax import parsed

FOLDED = [*PROJECTIONS.values(), planning.PROJECTION, announcing.PROJECTION]
TABLES = [
    pytest.param(projection, table, id=f"{projection.name}.{table.name}")
    for projection in FOLDED
    if projection.gathering is None
    for table in projection.tables
    if table.source is None
]


def events_of(function: Callable[..., Any]) -> set[type[Event]]:
    """Return the events that a function is written for, as its annotations say."""
    (recorded,) = [hint for name, hint in get_type_hints(getattr(function, "func", function)).items() if name == "recorded"]
    (events,) = get_args(recorded)
    return set(get_args(events)) if isinstance(events, UnionType) or get_args(events) else {events}


@pytest.mark.parametrize(("projection", "table"), TABLES)
def test_keys_are_found_for_every_event_of_the_topics(projection: Projection, table: Table[Any]) -> None:
    assert events_of(table.keys_of) == {event for topic in projection.topics for event in topic.events}


@pytest.mark.parametrize(("projection", "table"), TABLES)
def test_a_row_is_folded_from_every_event_that_has_a_key(projection: Projection, table: Table[Any]) -> None:
    written_for = events_of(table.evolve)
    for event in (event for topic in projection.topics for event in topic.events):
        for path in examples_of(event):
            recorded = Recorded(TOPIC_OF[event.TYPE].name, 0, 0, decode((ROOT / path).read_bytes()))
            assert not table.keys_of(recorded) or type(recorded.envelope.data) in written_for, path


# --- what mypy says -------------------------------------------------------------------------------------------------

NEW = '''
class {name}(Event, type="kinolog.new.{name}.v1"):
    """Something new."""

    job_id: str
    video_id: str
    worker_id: str
    pool: str
    epoch: int
    failure_id: str


'''
NEW_RESULT = '''
class NewResult(Value):
    """Something new that a video is made of."""

    kind: Literal["new"] = "new"


'''
EVENTS = {
    "NewRequest": ("events/jobs.py", "JobRequest"),
    "NewStep": ("events/jobs.py", "JobStep"),
    "NewFact": ("events/jobs.py", "JobFact"),
    "NewVideoEvent": ("events/videos.py", "VideoEvent"),
    "NewWorkerEvent": ("events/workers.py", "WorkerEvent"),
    "NewFailureEvent": ("events/failures.py", "FailureEvent"),
}
"""New events, each the first of a union."""
JOBS = {
    "api/admin/live/messages.py:of_progress",
    "api/worker/decisions.py:_see",
    "processors/dispatch/figures.py:measure",
    "processors/dispatch/state.py:evolve",
    "processors/planning/process.py:keys_of",
    "processors/planning/reruns.py:keys_of",
    "projections/failures/projection.py:failure_keys",
    "projections/history/audit.py:see",
    "projections/jobs.py:attempt_keys",
    "projections/timeline.py:_words",
    "workers/transport.py:_see",
}
"""Functions that say something about every fact about jobs, one by one."""
LISTED = {
    "NewRequest": {"processors/dispatch/decide.py:decide", "projections/audit.py:about", "projections/history/story.py:say"},
    "NewStep": JOBS | {"projections/history/story.py:_step", "projections/jobs.py:evolve_job"},
    "NewFact": JOBS
    | {
        "processors/dispatch/recording.py:heard",
        "projections/catalog.py:media_keys",
        "projections/catalog.py:part_keys",
        "projections/failures/projection.py:success_keys",
        "projections/history/story.py:say",
        "projections/jobs.py:job_keys",
        "projections/jobs.py:pause_keys",
    },
    "NewVideoEvent": {
        "api/admin/live/messages.py:of_progress",
        "processors/delivering/announcing.py:keys_of",
        "processors/files.py:act",
        "processors/planning/process.py:keys_of",
        "processors/planning/reruns.py:keys_of",
        "projections/audit.py:about",
        "projections/catalog.py:evolve_video",
        "projections/daily/projection.py:evolve_item",
        "projections/timeline.py:_words",
    },
    "NewWorkerEvent": {
        "api/admin/live/messages.py:of_workers",
        "api/worker/decisions.py:_see",
        "projections/workers.py:keys_of",
    },
    "NewFailureEvent": {
        "projections/audit.py:about",
        "projections/failures/projection.py:rerun_keys",
        "projections/failures/projection.py:resolution_keys",
        "projections/history/story.py:say",
    },
    "NewResult": {
        "processors/planning/process.py:_made",
        "projections/catalog.py:evolve_media",
        "projections/failures/projection.py:_whole_stage",
        "projections/jobs.py:made_by",
    },
}
"""Functions in which mypy reports each. One that is missing here was added; one that mypy misses swallows events."""


def with_new_events(root: Path) -> Copy:
    """Return a copy of the code whose unions have one event more, and whose videos are made of one result more."""
    code = copy_of_the_code(root)
    for name, (path, union) in EVENTS.items():
        before = code.read(path)
        first = re.search(rf"^{union} = \(?\s*", before, re.M)
        assert first is not None, union
        code.change(path, (first[0], f"{NEW.format(name=name).lstrip()}{first[0]}{name} | "))
    code.change(
        "events/kinds.py",
        ("MakingResult = ", f"{NEW_RESULT.lstrip()}MakingResult = NewResult | "),
    )
    return code


def test_mypy_lists_every_function_that_forgets_an_event(tmp_path: Path) -> None:
    code = with_new_events(tmp_path / "new-events")
    found: dict[str, set[str]] = {name: set() for name in LISTED}
    for error in code.mypy():
        if match := re.match(r"([^:]+\.py):(\d+): error: ", error):
            for name in set(re.findall(r"\bNew\w+", error)) & set(found):
                found[name].add(f"{match[1]}:{function_at(code, match[1], int(match[2]))}")
    assert found == LISTED


def function_at(code: Copy, path: str, line: int) -> str:
    """Return the innermost function around a line."""
    around = [
        node
        for node in ast.walk(parsed(code.read(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or line)
    ]
    return max(around, key=lambda node: node.lineno).name


# --- nothing is swallowed -------------------------------------------------------------------------------------------

VOCABULARY = {event.__name__ for topic in TOPICS.values() for event in topic.events} | {
    model.__name__ for kind in KINDS.values() for model in (kind.spec, kind.result)
}
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def swallowing(tree: ast.Module) -> list[int]:
    """Return the lines of `case _` that take what a match over events, specs or results does not name, and do not refuse it."""
    found = []
    for match in (node for node in ast.walk(tree) if isinstance(node, ast.Match)):
        patterns = [inner for case in match.cases for inner in ast.walk(case.pattern)]
        classes = {ast.unparse(pattern.cls) for pattern in patterns if isinstance(pattern, ast.MatchClass)}
        for case in match.cases:
            if classes & VOCABULARY and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None:
                refuses = any(
                    isinstance(inner, ast.Raise) or (isinstance(inner, ast.Name) and inner.id == "assert_never")
                    for statement in case.body
                    for inner in ast.walk(statement)
                )
                found += [] if refuses else [case.pattern.lineno]
    return found


@pytest.mark.parametrize("path", FILES, ids=map(str, FILES))
def test_no_match_swallows_what_it_does_not_name(path: Path) -> None:
    assert swallowing(parsed((ROOT / path).read_text())) == []


def test_a_match_that_swallows_is_found() -> None:
    named = "match event:\n    case JobQueued():\n        a()\n    case _:\n        {}\n"
    assert swallowing(parsed(named.format("pass"))) == swallowing(parsed(named.format("return x"))) == [4]
    assert swallowing(parsed(named.format("assert_never(event)"))) == swallowing(parsed(named.format("raise X"))) == []
    assert swallowing(parsed("match name:\n    case 'frame':\n        a()\n    case _:\n        pass\n")) == []


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_end_of_a_claim_reaches_its_holder() -> None:
    assert set(ENDS) == set(get_args(AttemptEnd))


@pytest.mark.parametrize("event", [ResultRefused, RequestRefused])
def test_every_refusal_has_words(event: type[Event]) -> None:
    assert set(get_args(event.model_fields["reason"].annotation)) <= set(story.REFUSALS)

"""Nothing of ours is kept alive by tests alone: every name that the product defines is used by the product."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("events", "producers", "processors", "projections", "api", "workers", "infra")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
CALLED_BY_NAME = {
    "format_epilog": "click",
    "on_header": "httptools",
    "_unsupported_upgrade_warning": "uvicorn",
    "field_title_should_be_set": "pydantic",
    "on_first_start": "mode",
    "_gather_all": "mode",
    "_sentinel_task": "mode",
    "on_partitions_assigned": "aiokafka",
    "on_partitions_revoked": "aiokafka",
}
"""Methods that a library calls."""
WRITTEN_DOWN = {"FOLDERS": "where objects may lie, for the test that holds it"}
"""Names that say what there is, for readers and for tests of the rules."""
UNION = re.compile(r"events/\w+\.py: \w+Event")
"""What can be on a topic: a topic with one event names the event itself."""
QUIET = {
    "property",
    "cached_property",
    "staticmethod",
    "classmethod",
    "contextmanager",
    "asynccontextmanager",
    "cache",
    "lru_cache",
}
"""Decorators that register nothing: a function with another one is called by whoever took it."""


def defined(path: Path) -> Iterator[str]:
    """Yield the functions, classes, methods and module's constants of a file that somebody must name to use them."""
    module = ast.parse(path.read_text())
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) or (isinstance(node, FUNCTIONS) and _is_named_to_be_called(node)):
            yield node.name
    for statement in module.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_named_to_be_called(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether only our code calls it: not Python (`__enter__`, `visit_Name` of a tree), nor what its decorator registers."""
    if function.name.startswith(("__", "visit_")):
        return False
    return all(isinstance(one, ast.Name) and one.id in QUIET for one in function.decorator_list)


def test_every_name_is_used() -> None:
    words = Counter(word for path in FILES for word in re.findall(r"\w+", path.read_text()))
    known = CALLED_BY_NAME.keys() | WRITTEN_DOWN.keys()
    alone = {f"{path.relative_to(ROOT)}: {name}" for path in FILES for name in defined(path) if words[name] == 1}
    assert {one for one in alone if one.split()[1] not in known and not UNION.fullmatch(one)} == set()
    assert {name for name in known if words[name] != 1} == set(), "no exception any more"


def test_every_query_is_used() -> None:
    code = "".join(path.read_text() for path in FILES)
    for path in {found for package in PACKAGES for found in (ROOT / package).rglob("*.sql")}:
        for query in re.findall(r"^-- name: (\w+)$", path.read_text(), re.MULTILINE):
            assert f'"{query}"' in code or f"{{{query}}}" in path.read_text(), f"{path}: {query}"

"""Requirements are declared where they are used, pinned by one rule, and locked from what is declared."""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.locking import LOCKS, ROOT, blocks, digest, pinned

PYPROJECT = (ROOT / "pyproject.toml").read_text()
DOCUMENT = tomllib.loads(PYPROJECT)
EXTRAS: dict[str, list[str]] = {"core": DOCUMENT["project"]["dependencies"], **DOCUMENT["project"]["optional-dependencies"]}
GROUPS: dict[str, list[str]] = {
    name: [line for line in lines if isinstance(line, str)] for name, lines in DOCUMENT["dependency-groups"].items()
}
PACKAGES = DOCUMENT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
NOT_IMPORTED = {
    "httptools": "uvicorn's reader of HTTP, on which `api.connections` builds",
    "language-data": "the names of languages, which langcodes reads",
    "faster-whisper": "of the extra `transcribe`, whose work comes",
}
"""Requirements that no module of ours imports, and why they are there."""
FOUND_BY_NAME = "find_spec"
"""Programs in wheels are looked for with this, not imported."""


def names(lines: list[str]) -> set[str]:
    """Return the distributions that requirements name, ours left out."""
    return {str(canonicalize_name(Requirement(line).name)) for line in lines} - {"kinolog"}


def imported() -> dict[str, set[str]]:
    """Return, by distribution that is not ours, the files that import it."""
    distributions = packages_distributions()
    found: dict[str, set[str]] = defaultdict(set)
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts):
        for name in set(_imports(ast.parse(path.read_text()))) - set(PACKAGES) - set(sys.stdlib_module_names):
            for distribution in distributions.get(name, [name]):
                found[canonicalize_name(distribution)].add(str(path.relative_to(ROOT)))
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == FOUND_BY_NAME:
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def test_imports_and_requirements_are_the_same() -> None:
    used, declared = imported(), names([line for lines in EXTRAS.values() for line in lines])
    assert {name: sorted(by) for name, by in used.items() if name not in declared} == {}, "imported, not declared"
    assert declared - used.keys() - NOT_IMPORTED.keys() == set(), "declared, not imported"
    assert NOT_IMPORTED.keys() & used.keys() == set(), "no exception any more"


def test_a_package_is_in_one_group() -> None:
    """Installations add up: what one extra names, no other names again."""
    groups = [names(lines) for lines in (*EXTRAS.values(), GROUPS["build"])]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert names(GROUPS["dev"]) & set().union(*groups) == set()


@pytest.mark.parametrize("group", [*EXTRAS, *GROUPS])
def test_requirements_have_a_least_version_and_no_other_bound_without_a_reason(group: str) -> None:
    for line in (EXTRAS | GROUPS)[group]:
        if Requirement(line).name != "kinolog":
            assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,]+\])?>=[0-9.]+", line) or _has_reason(line), line


def _has_reason(line: str) -> bool:
    return re.search(re.escape(f'"{line}",') + r"  # \w", PYPROJECT) is not None


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_made_from_what_is_declared(name: str) -> None:
    """Otherwise `make lock`."""
    lock = LOCKS[name]
    text = lock.path.read_text()
    assert f"digest {digest()}\n" in text.splitlines(keepends=True)[0]
    assert "://" not in text
    own, locked = blocks(text), pinned(name)
    assert all("--hash=sha256:" in block for block in own.values())
    assert not any(own.keys() & pinned(other).keys() for other in lock.includes), "written twice"
    wanted = names((EXTRAS | GROUPS).get("dev" if name == "all" else name, []))
    assert wanted <= locked.keys()


def test_locks_agree_about_versions() -> None:
    versions: dict[str, set[str]] = defaultdict(set)
    for lock in LOCKS.values():
        for package, block in blocks(lock.path.read_text()).items():
            versions[package].add(block)
    assert {package for package, found in versions.items() if len(found) > 1} == set()

"""The rules of the house, read off the source: which package may import which, where time comes from, how long things are."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.syntax import parsed

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("events", "producers", "processors", "projections", "api", "workers", "infra")

ARROWS = {
    "events": set(),
    "producers": {"events"},
    "projections": {"events"},
    "processors": {"events", "projections", "producers"},
    "api": {"projections", "producers", "events"},
    "workers": {"events", "producers"},
    "infra": set(PACKAGES),
}
"""What a package may import, besides itself. Composition roots may import everything."""

EVERYTHING = set(PACKAGES)
ROOMS = {
    "projections": {"projections.folding"},
    "projections.folding": set(),
    "projections.telemetry": {"projections", "projections.folding"},
    "projections.failures": {"projections", "projections.folding"},
    "projections.streams": {"projections.folding"},
    "projections.hosts": {"projections.folding"},
    "projections.daily": {"projections.folding", "projections.streams"},
    "projections.deliveries": {"projections.folding"},
    "projections.playback": {"projections", "projections.folding"},
    "projections.people": set(),
    "projections.registry": EVERYTHING,
    "projections.history": {"projections", "projections.folding", "projections.registry"},
    "processors": {"processors.agents"},
    "processors.agents": set(),
    "processors.dispatch": {"processors.agents"},
    "processors.planning": {"processors.agents"},
    "processors.delivering": {"processors.agents"},
    "processors.pool_state": {"processors.dispatch"},
    "processors.whatif": {"processors.dispatch"},
    "processors.registry": EVERYTHING,
    "processors.__main__": EVERYTHING,
    "api": set(),
    "api.login": {"api"},
    "api.admin": {"api", "api.login"},
    "api.public": {"api"},
    "api.worker": {"api"},
    "api.telemetry": {"api"},
    "workers.attempts": set(),
    "workers.transcode": {"workers.attempts"},
    "workers": {"workers.attempts", "workers.transcode"},
    "workers.remote": {"workers"},
    "infra.runtime": set(),
    "infra.history": {"infra.runtime"},
    "infra.settings": {"infra.runtime"},
    "infra.backup": {"infra.runtime"},
    "infra.local": {"infra.runtime"},
    "infra.commands.support": {"infra.runtime", "infra.local"},
    "infra.reference": {"infra.runtime", "infra.commands.support"},
    "infra": {"infra.runtime", "infra.local", "infra.commands.support"},
    "infra.commands": EVERYTHING,
    "infra.cli": EVERYTHING,
}
"""What a room, a folder or one module of a package, may import of its own package, besides itself.

The registries, `processors.__main__` and `infra.cli` list what is there.
`processors.pool_state` and `processors.whatif` are old names.
"""

UNDER_RUNTIME = {"events", "producers", "projections.folding", "projections.history"}
"""What `infra.runtime`, the bottom of infra, may import of other packages."""

COMPOSITION_ROOTS = {"__main__.py", "app.py", "cli.py"}
"""File names that may import infra, read clocks and make ids: here parts are put together."""

CLOCKS_AND_CHANCE = re.compile(
    r"""
    datetime\.(datetime|date)\.(now|today|utcnow)
    | time\.(?!struct_time|strptime|strftime)\w+
    | asyncio\.loop\.time
    | uuid\.(uuid[14678]|getnode) | uuid_utils\.\w+
    | random\.(?!Random$)\w+ | random\.Random\(\)
    | secrets\.(?!compare_digest)\w+
    | os\.(urandom|getrandom|times)
    """,
    re.VERBOSE,
)
"""Where time, ids and chance come from. `random.Random(seed)` is none: the same seed gives the same."""

MEASURES = "it measures how long its own work takes, for metrics and logs"
WAITS = "it watches processes and leases of this machine, whose time is the event loop's"
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "api/admin/live/hub.py": ("asyncio.loop.time", "a silent stream gets a heartbeat when this much time has passed"),
    "api/connections.py": ("asyncio.loop.time", "connections that are too slow or idle end"),
    "api/limits.py": ("time.monotonic", "requests and faults are limited by address"),
    "api/middleware.py": ("time.perf_counter", MEASURES),
    "api/telemetry/answers.py": ("time.monotonic", "the default of a parameter: answers are kept for some seconds"),
    "api/telemetry/app.py": ("os.urandom", "the salt under which addresses are counted, new at every start"),
    "api/telemetry/ingest.py": ("time.monotonic time.perf_counter", f"requests are limited by address; and {MEASURES}"),
    "api/telemetry/protocol.py": ("time.perf_counter", MEASURES),
    "api/access.py": ("asyncio.loop.time", "the table of keys is compared again after some time"),
    "events/pulse.py": ("asyncio.loop.time", "a loop without a beat for too long is cancelled"),
    "processors/agents/feed.py": ("asyncio.loop.time", f"{MEASURES}; and partitions that stand aside are tried again"),
    "processors/dispatch/owner.py": ("asyncio.loop.time", MEASURES),
    "producers/appender.py": ("time.perf_counter", f"{MEASURES}; and a group is gathered for a few milliseconds"),
    "api/login/challenges.py": ("secrets.token_bytes", "a challenge is secret: nobody may make the same chance again"),
    "api/login/providers.py": ("secrets.token_urlsafe", "a nonce and a verifier are secret, too"),
    "api/login/people.py": ("secrets.token_urlsafe", "links, tokens and cookies are secret, too"),
    "api/login/ways.py": ("secrets.token_urlsafe", "a browser's cookie is secret, too"),
    "api/public/playback.py": ("secrets.token_urlsafe", "so is that of a viewer"),
    "producers/factors.py": ("secrets.token_bytes", "secrets and recovery codes are secret, too"),
    "producers/webhooks.py": ("secrets.token_bytes secrets.token_urlsafe", "and so are those of webhooks"),
    "producers/passwords.py": ("secrets.token_urlsafe", "nobody has the password of a name that nobody has"),
    "producers/keys.py": ("secrets.token_urlsafe", "a key is secret: nobody may make the same chance again"),
    "projections/folding/pace.py": ("time.perf_counter time.thread_time", "the defaults of parameters: a fold rests in proportion"),
    "workers/loop.py": ("asyncio.loop.time", WAITS),
    "workers/rerun.py": ("asyncio.loop.time", MEASURES),
    "workers/attempts/process.py": ("asyncio.loop.time", WAITS),
    "workers/transcode/renditions.py": ("asyncio.loop.time", "progress is reported at most once a second"),
}
"""What a file below the composition roots uses all the same, and why. No decision and no event depends on it."""

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SQL_IN_PYTHON = ("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ")


def names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


@cache
def tree(path: Path) -> ast.Module:
    return parsed((ROOT / path).read_text(), str(path))


def is_root(path: Path) -> bool:
    return path.parts[0] == "infra" or path.name in COMPOSITION_ROOTS


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever it does: also inside functions and for types only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULES else node.module or ""


def room_of(module: str, rooms: Collection[str] = ROOMS) -> str | None:
    """Return the innermost of these rooms that a module is in."""
    parts = module.split(".")
    return next((room for length in range(len(parts), 0, -1) if (room := ".".join(parts[:length])) in rooms), None)


_LOOP = re.compile(r"(^|\.|_)loop$|get_(running|event)_loop\(\)$")


def called(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, full name) of every dotted name that a file uses, through its imports."""
    known: dict[str, str] = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            head, _, rest = ast.unparse(node).partition(".")
            if head in known:
                yield node.lineno, f"{known[head]}.{rest}" if rest else known[head]
        if isinstance(node, ast.Attribute) and node.attr == "time" and _LOOP.search(ast.unparse(node.value)):
            yield node.lineno, "asyncio.loop.time"
        if isinstance(node, ast.Call) and not node.args and not node.keywords:
            head, _, rest = ast.unparse(node.func).partition(".")
            yield node.lineno, f"{known.get(head, head)}{rest and '.'}{rest}()"


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_imports_follow_the_arrows(path: Path) -> None:
    package = path.parts[0]
    allowed = set(PACKAGES) if is_root(path) else ARROWS[package] | {package}
    found = {module.partition(".")[0] for module in imports(path)} & set(PACKAGES)
    assert found <= allowed, f"{package} may not import {', '.join(sorted(found - allowed))}"


def clocks_and_chance(path: Path) -> dict[str, int]:
    """Return where time, ids and chance of a file come from, each with a line of its use."""
    return {name.removesuffix("()"): line for line, name in called(path) if CLOCKS_AND_CHANCE.fullmatch(name)}


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_imports_inside_a_package_follow_the_plan_of_its_rooms(path: Path) -> None:
    room = room_of(module_of(path))
    if room is None or ROOMS[room] == EVERYTHING:
        return
    neighbours = {module for module in imports(path) if module in MODULES and module.split(".")[0] == path.parts[0]}
    found = {room_of(module) for module in neighbours} - ROOMS[room] - {room}
    assert not found, f"{room} may not import {', '.join(sorted(filter(None, found)))}"


def test_every_folder_is_in_the_plan() -> None:
    folders = {".".join(path.parts[:2]) for path in FILES if len(path.parts) > 2}
    assert {folder for folder in folders if folder not in ROOMS and folder != "infra.commands"} == set()
    assert {room for room in ROOMS if not any(module == room or module.startswith(f"{room}.") for module in MODULES)} == set()


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path).startswith("infra.runtime")], ids=str)
def test_the_bottom_of_infra_imports_nothing_above_it(path: Path) -> None:
    others = {module for module in imports(path) if module in MODULES and module.split(".")[0] != "infra"}
    assert {module for module in others if room_of(module, UNDER_RUNTIME) is None} == set()


def circle_in(files: Collection[Path], rooms: Collection[str] | None = None) -> list[str]:
    """Return the modules, or the rooms, of one circle of imports, if there is any."""
    modules = {module_of(path): path for path in files}
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for module, path in modules.items():
        for other in modules.keys() & set(imports(path)):
            ends = (module, other) if rooms is None else (room_of(module, rooms) or module, room_of(other, rooms) or other)
            if ends[0] != ends[1]:
                graph[ends[0]].add(ends[1])
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_module_imports_itself_through_others() -> None:
    assert circle_in(FILES) == []


def test_no_room_imports_itself_through_others() -> None:
    assert circle_in(FILES, ROOMS) == []


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_time_ids_and_chance_are_passed_in(path: Path) -> None:
    if not is_root(path):
        allowed, _reason = EXCEPTIONS.get(str(path), ("", ""))
        assert clocks_and_chance(path).keys() == set(allowed.split())


def test_every_exception_is_a_file() -> None:
    assert EXCEPTIONS.keys() <= set(names(FILES))


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_no_error_is_silenced(path: Path) -> None:
    """No bare except, and no handler of everything that neither raises nor uses the error."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        where = f"{path}:{node.lineno}"
        assert node.type is not None, f"{where}: bare except"
        assert not _is_empty(node.body), f"{where}: say why with `return`, `continue` or contextlib.suppress"
        if ast.unparse(node.type) in ("Exception", "BaseException"):
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            used = node.name and any(isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node))
            assert raises or used, f"{where}: catches everything and forgets it"


def _is_empty(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in body
    )


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= FILE_LINES_MAX
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{path}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not (ROOT / path).read_text().strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_in_this_repository(package: str) -> None:
    """Top-level names are common words; an installed package of the same name must not get in the way."""
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / package


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[0] == "api"], ids=names([path for path in FILES if path.parts[0] == "api"])
)
def test_http_apps_have_no_sql(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.lstrip().startswith(SQL_IN_PYTHON), f"{path}:{node.lineno}"


def test_no_test_imports_another() -> None:
    """Fixtures and builders live in tests/support: a test may then be changed, or moved, without looking at the others."""
    borrowed = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if "node_modules" not in path.parts
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in (f"{getattr(node, 'module', '')}.{alias.name}" for alias in node.names)
        if name.lstrip(".").startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]
    assert borrowed == []


def test_the_rules_find_what_they_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad file, to see that these tests can fail."""
    (tmp_path / "events").mkdir()
    bad = Path("events/bad.py")
    (tmp_path / bad).write_text(
        "import asyncio, random, secrets, time as t, uuid\nfrom datetime import datetime\nimport infra.cli\n"
        "from random import Random, shuffle\nfrom time import perf_counter as now\nfrom uuid import UUID, uuid5\n"
        "t.time()\ndatetime.now()\ntry: ...\nexcept Exception: pass\n"
        "now(); t.monotonic_ns(); datetime.utcnow(); shuffle(x); random.choice(x); random.Random(); secrets.token_hex()\n"
        "uuid.uuid4(); asyncio.get_running_loop().time(); self.loop.time(); read = loop.time\n"
        "random.Random(7); Random('seed'); secrets.compare_digest(a, b); uuid5(UUID(x), y); datetime.fromtimestamp(0); event.time\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    tree.cache_clear()
    for rule in (test_imports_follow_the_arrows, test_time_ids_and_chance_are_passed_in, test_no_error_is_silenced):
        with pytest.raises(AssertionError):
            rule(bad)
    assert sorted(clocks_and_chance(bad)) == [
        *("asyncio.loop.time", "datetime.datetime.now", "datetime.datetime.utcnow"),
        *("random.Random", "random.choice", "random.shuffle", "secrets.token_hex"),
        *("time.monotonic_ns", "time.perf_counter", "time.time", "uuid.uuid4"),
    ]
    assert sorted(line for line, name in called(bad) if name == "asyncio.loop.time") == [12, 12, 12]
    monkeypatch.setitem(globals(), "MODULES", {"api.public.one": Path(), "api.admin.two": Path(), "workers.attempts.work": Path()})
    for name, text in {
        "api/public/one.py": "from api.admin import two\n",
        "api/admin/two.py": "def late():\n    import api.public.one\n",
        "infra/runtime/three.py": "from workers.attempts import work\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(AssertionError, match=r"api\.public may not import api\.admin"):
        test_imports_inside_a_package_follow_the_plan_of_its_rooms(Path("api/public/one.py"))
    with pytest.raises(AssertionError):
        test_the_bottom_of_infra_imports_nothing_above_it(Path("infra/runtime/three.py"))
    circle = [Path("api/public/one.py"), Path("api/admin/two.py")]
    assert set(circle_in(circle)) == {"api.public.one", "api.admin.two"}
    assert set(circle_in(circle, ROOMS)) == {"api.public", "api.admin"}
    tree.cache_clear()


def astray(tests: Path, root: Path) -> list[str]:
    """Return the folders of tests that are no folders of the code."""
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    return sorted(str(folder) for folder in folders if not (root / folder).is_dir())


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_tests_lie_in_the_folders_of_what_they_test(kind: str) -> None:
    """Those of the whole lie on top."""
    assert astray(ROOT / "tests" / kind, ROOT) == []


def test_a_folder_that_is_astray_is_found(tmp_path: Path) -> None:
    for name in ("unit/test_whole.py", "unit/api/test_one.py", "unit/apis/admin/test_two.py", "api/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert astray(tmp_path / "unit", tmp_path) == ["apis/admin"]

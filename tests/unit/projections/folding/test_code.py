"""The digest of a fold's code: it changes with what decides about rows, and with nothing else."""

import importlib
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from projections.folding import code
from projections.folding.code import code_of
from projections.folding.fold import Projection, Table
from projections.registry import PROJECTIONS

FOLD = '''"""A fold."""

from dataclasses import dataclass, replace

from {package}.{names} import LIMIT, shortened as short
from {package} import {events}


@dataclass(slots=True)
class Row:
    """A row."""

    video_id: str
    title: str = ""


def keys_of(recorded: object) -> tuple[str, ...]:
    match recorded:
        case {events}.Edited():
            return (recorded.video_id,)
    return ()


def passing_on(wrapped):
    def inner(row, recorded):
        return wrapped(row, recorded)

    return inner


@passing_on
def evolve(row: Row | None, recorded: object) -> Row | None:
    """Fold."""
    title: str = short(recorded.title)  # cut
    return replace(row or Row(recorded.video_id), title=title[:LIMIT])


def page() -> str:
    return "a reader"
'''
NAMES = "LIMIT = 80\nOTHER = 7\n\n\ndef shortened(text: str) -> str:\n    return text.strip()\n"
EVENTS = 'class Event:\n    pass\n\n\nclass Edited(Event):\n    video_id: str\n    title: str = ""\n\n\nclass Unknown:\n    pass\n'
_packages = count()


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the function that writes these three modules, imports them, and returns the digest of their fold."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(fold: str = FOLD, names: str = NAMES, events: str = EVENTS, at: dict[str, str] | None = None) -> str:
        package = f"folded{next(_packages)}"
        modules = {"fold": "fold", "names": "names", "events": "events"} | (at or {})
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for module, text in (("fold", fold.format(package=package, **modules)), ("names", names), ("events", events)):
            path = (tmp_path / package).joinpath(*modules[module].split(".")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        made = importlib.import_module(f"{package}.{modules['fold']}")
        table = Table("rows", made.Row, ("video_id",), made.keys_of, made.evolve)
        return code_of(Projection("test", (), (table,), "CREATE TABLE rows (); -- empty"))

    yield written
    for name in [name for name in sys.modules if name.startswith("folded")]:
        del sys.modules[name]
    code._module.cache_clear()


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("fold", "# cut", "# cut it"),
        ("fold", '"""A fold."""', '"""One fold."""'),
        ("fold", '"""Fold."""', '"""Fold it."""'),
        ("fold", "title: str = short", "title = short"),
        ("fold", "row: Row | None, recorded: object", "row, recorded"),
        ("fold", '"a reader"', '"another reader"'),
        ("names", "OTHER = 7", "OTHER = 8"),
        ("events", "class Unknown:\n    pass", "class Unknown:\n    known: int = 7"),
    ],
)
def test_what_changes_no_row_changes_no_digest(digest: Any, part: str, old: str, new: str) -> None:
    text = {"fold": FOLD, "names": NAMES, "events": EVENTS}[part]
    assert old in text
    assert digest(**{part: text.replace(old, new)}) == digest()


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("fold", "title[:LIMIT]", "title"),
        ("fold", 'title: str = ""', 'title: str = "none"'),
        ("fold", "case {events}.Edited()", "case {events}.Event()"),
        ("fold", "return wrapped(row, recorded)", "return wrapped(None, recorded)"),
        ("names", "LIMIT = 80", "LIMIT = 81"),
        ("names", "text.strip()", "text"),
        ("events", 'title: str = ""', "title: str | None = None"),
        ("events", "class Event:\n    pass", "class Event:\n    source: str"),
    ],
)
def test_whatever_a_fold_reaches_is_part_of_it(digest: Any, part: str, old: str, new: str) -> None:
    text = {"fold": FOLD, "names": NAMES, "events": EVENTS}[part]
    assert old in text
    assert digest(**{part: text.replace(old, new)}) != digest()


def test_a_module_may_be_moved(digest: Any) -> None:
    moved = FOLD.replace("from {package} import {events}", "from {package}.room import facts")
    fold = moved.replace("{events}.", "facts.")
    assert digest(fold, at={"fold": "folding", "names": "room.words", "events": "room.facts"}) == digest()


def test_every_fold_has_a_digest_of_its_own() -> None:
    codes = {name: code_of(projection) for name, projection in PROJECTIONS.items()}
    assert len(set(codes.values())) == len(codes)

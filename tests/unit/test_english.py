"""The English of docstrings, comments and documents: no text begins with a relative clause, and worn-out words stay away."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("events", "producers", "processors", "projections", "api", "workers", "infra")
BEGINNINGS = re.compile(r"(What(?!-if)|Who|Whose|Whom|Whoever|Which|How|Where|So (many|much|long|often|late))\b")
PHRASES = {
    "told|tells?|telling": "record, publish, report, show, return or distinguish",
    "at the most": "at most N",
    "slowest hundredth": "p99",
    "whoever": "the actor",
}
"""Words with too many meanings or none, and those to choose from instead."""

EXCEPTIONS: dict[str, str] = {}
"""Path and line that keep such a word, and the reason."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each docstring and comment of a module, or of each line of a document."""
    source = path.read_text()
    if path.suffix == ".md":
        yield from enumerate(source.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
        elif token.type == tokenize.STRING and token.string.endswith('"""'):
            yield token.start[0], token.string.partition('"""')[2].removesuffix('"""').strip()


def code() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts]


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def found(pattern: re.Pattern[str], paths: list[Path], *, anywhere: bool) -> list[str]:
    """Return `path:line: text` of each text with the pattern, at its beginning or anywhere."""
    search = pattern.search if anywhere else pattern.match
    at = [(f"{path.relative_to(ROOT)}:{line}", text) for path in paths for line, text in texts(path) if search(text)]
    return [f"{where}: {text[:100]}" for where, text in at if where not in EXCEPTIONS]


def test_docstrings_and_comments_begin_with_a_noun_or_a_verb() -> None:
    assert found(BEGINNINGS, code(), anywhere=False) == []


def test_words_with_too_many_meanings_stay_away() -> None:
    for words, instead in PHRASES.items():
        assert found(re.compile(rf"\b({words})\b", re.IGNORECASE), code() + documents(), anywhere=True) == [], f"write: {instead}"

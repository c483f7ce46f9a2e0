"""What is written about the platform is so: everything is documented, commands and links in the pages exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from events.envelope import REGISTRY
from events.topics import TOPICS
from infra.cli import app
from infra.reference import pages
from infra.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = dict(pages.commands(typer.main.get_command(app), ("kinolog",)))


def headings(page: Path) -> set[str]:
    return {line.lstrip("#").strip() for line in page.read_text().splitlines() if line.startswith("#")}


def shell_lines(text: str) -> Iterator[str]:
    """Yield each command in the shell blocks of a page, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.strip():
                yield line.split("  #")[0].split(" # ")[0].strip()


def kinolog_calls() -> list[tuple[str, list[str]]]:
    """Return (where, words) of every kinolog command in pages and docstrings."""
    calls = []
    texts = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
    for where, text in texts.items():
        for line in shell_lines(text):
            for part in re.split(r"[|;&]+", line):
                words = part.replace("…", "X").split("    ")[0]
                if "kinolog" in words.split():
                    found = shlex.split(words)
                    calls.append((where, found[found.index("kinolog") :]))
    return calls


CALLS = kinolog_calls()


def unquoted(line: str) -> str:
    """Return a shell line without what stands in quotes or is escaped."""
    return re.sub(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", "", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_mean_the_same_in_every_shell(page: Path) -> None:
    """zsh takes an unquoted ?, * or [ for the name of a file, and ends when there is none."""
    assert [line for line in shell_lines(page.read_text()) if re.search(r"[?*\[]", unquoted(line))] == []


@pytest.mark.parametrize(("where", "words"), CALLS, ids=[" ".join(words) for _, words in CALLS])
def test_commands_in_the_pages_exist(where: str, words: list[str]) -> None:
    path: tuple[str, ...] = ("kinolog",)
    rest = words[1:]
    while rest and (*path, rest[0]) in COMMANDS:
        path, rest = (*path, rest[0]), rest[1:]
    command: Any = COMMANDS[path]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    options = [word.split("=")[0] for word in rest if word.startswith("-") and word != "-"]
    assert set(options) <= known, f"{where}: {' '.join(path)} has no {set(options) - known}"
    assert not (getattr(command, "commands", None) and rest and not rest[0].startswith("-")), f"{where}: no such command: {words}"


def test_every_command_is_documented_with_an_example() -> None:
    found = headings(REFERENCE / "cli.md")
    for path, command in COMMANDS.items():
        assert " ".join(path) in found
        assert command.help, path
        if not getattr(command, "commands", None):
            assert "Examples:" in command.help and " ".join(path) in command.help, f"{path}: an example, please"


def test_every_command_answers_in_json() -> None:
    for path, command in COMMANDS.items():
        if getattr(command, "commands", None) is None and path[-1] != "worker":
            assert "--json" in {name for parameter in command.params for name in parameter.opts}, path


def test_every_setting_is_documented() -> None:
    page = (REFERENCE / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{PREFIX}{name.upper()}`" in page
        assert field.description and field.description.endswith("."), name


def test_every_event_and_topic_is_documented() -> None:
    events = headings(REFERENCE / "events.md")
    assert {event.__name__ for event in REGISTRY.values()} <= events
    assert set(TOPICS) <= headings(REFERENCE / "topics.md")


def test_every_metric_is_documented_and_well_named() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    for name, kind, labels, words in pages.metrics():
        assert f"| `{name}` | {kind} |" in page
        assert words.endswith("."), name
        assert re.fullmatch(r"kinolog_[a-z]+(_[a-z]+)+", name)
        if kind == "histogram":
            assert name.endswith("_seconds"), name
        assert not {"video_id", "job_id", "worker_id", "subject", "path"} & set(labels), name


def test_metrics_of_ours_are_declared_in_one_module() -> None:
    for package in ("producers", "processors", "projections", "api", "workers", "infra"):
        for path in (ROOT / package).rglob("*.py"):
            if path.relative_to(ROOT) not in (Path("infra/runtime/metrics.py"), Path("infra/reference/pages.py")):
                assert not re.search(r"\b(Counter|Gauge|Histogram)\(\s*\"kinolog", path.read_text()), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_hold(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings(there)}
            assert anchor in slugs, f"{page.name}: {target}"


def test_make_targets_in_the_pages_exist() -> None:
    wanted = {
        target for page in PAGES for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    names = {name for pair in wanted for name in pair if name}
    makefile = (ROOT / "Makefile").read_text()
    assert {name for name in names if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def test_decisions_are_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs" / "adr").glob("[0-9]*.md"):
        assert page.name in index
        assert all(f"**{part}.**" in page.read_text() for part in ("Context", "Decision", "Consequences"))


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

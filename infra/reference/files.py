"""Writes the files generated from the code: schemas, the AsyncAPI document, the reference pages.

`kinolog docs` writes the files, a test compares them. A schema is never overwritten with one that cannot read the past.
`command` is the root of the command line, which contains `kinolog docs` itself: its caller passes it in.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from events.compatibility import incompatibilities
from events.errors import KinologError
from infra.reference import pages
from infra.reference.schemas import ENVELOPE, ROOT, SCHEMAS, all_events, asyncapi, envelope_schema, schema_of


class IncompatibleSchemas(KinologError):
    """An event changed so that its old records on the log cannot be read."""


def documents(command: Any, root: Path = ROOT) -> dict[Path, str]:
    """Return {path relative to the repository: text} of every generated file. Reads only the examples."""
    files: dict[Path, str] = {ENVELOPE: _json(envelope_schema())}
    for event in all_events():
        files[SCHEMAS / f"{event.TYPE}.json"] = _json(schema_of(event))
    files[Path("docs/asyncapi.json")] = _json(asyncapi(root))
    written = {
        "events": pages.events_page(root),
        "topics": pages.topics_page(),
        "kinds": pages.kinds_page(),
        "rights": pages.rights_page(),
        "settings": pages.settings_page(),
        "cli": pages.cli_page(command),
        "metrics": pages.metrics_page(),
    }
    return files | {Path(f"docs/reference/{name}.md"): text for name, text in written.items()}


def stale(command: Any, root: Path = ROOT) -> list[Path]:
    """Return the generated files that are missing, differ, or belong to no event any more."""
    wanted = documents(command, root)
    differing = [path for path, text in wanted.items() if not _same(root / path, text)]
    return sorted({*differing, *_leftover(root, wanted)})


def write(command: Any, root: Path = ROOT, *, force: bool = False) -> list[Path]:
    """Write stale files; return the paths written or removed.

    Raises IncompatibleSchemas, and writes nothing, when old events would become unreadable. `force` writes even so:
    right only for an event that no log has yet.
    """
    if not force and (refusals := refused(root)):
        lines = "\n".join(f"  {line}" for line in refusals)
        raise IncompatibleSchemas(
            f"these changes need a new version of the event (.v2) and an upcaster, see CONTRIBUTING.md:\n{lines}"
        )
    wanted = documents(command, root)
    changed = stale(command, root)
    for path in changed:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path])
        else:
            (root / path).unlink()
    return changed


def refused(root: Path = ROOT) -> list[str]:
    """Return one sentence for each change since the stored schemas that makes old events unreadable."""
    lines = []
    today = {event.TYPE: schema_of(event) for event in all_events()}
    for path in sorted((root / SCHEMAS).glob("*.json")):
        if path.name == ENVELOPE.name:
            continue
        if path.stem not in today:
            lines.append(f"{path.stem}: the event was removed; old ones are still on the log")
            continue
        found = incompatibilities(json.loads(path.read_text()), today[path.stem])
        lines += [f"{path.stem}: {line}" for line in found]
    return lines


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _leftover(root: Path, wanted: Iterable[Path]) -> list[Path]:
    """Return schema files that belong to no event."""
    stored = {path.relative_to(root) for path in (root / SCHEMAS).glob("*.json")}
    return sorted(stored - set(wanted))

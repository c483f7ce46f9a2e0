"""`kinolog telemetry`: insights from reports, and the import of past reports, each row once however often it is run."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from uuid import uuid5

import typer

from infra.commands.support.admin_api import connected
from infra.commands.support.exits import UsageFault
from infra.commands.support.output import AsJson, AsOf, document, note, table

if TYPE_CHECKING:
    from infra.runtime.settings import Settings

app = typer.Typer(
    rich_markup_mode=None, help="Show insights from reports of transcodes; import past reports.", no_args_is_help=True
)
BATCH_ROWS = 2_000
_COLUMNS = {"id", "created_at", "app_version", "event_type"}
"""Columns that identify the predecessor's table of raw events, whatever its name."""


class Row(NamedTuple):
    """A row (None when it is no JSON object), its text, the position of the next one (bytes or rowid), and its number."""

    values: Mapping[str, Any] | None
    line: str
    next: int
    number: int


@dataclass
class Imported:
    """The progress of an import, kept in a file from which the next one goes on."""

    position: int = 0
    rows: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def load(cls, path: Path) -> "Imported":
        """Return the stored progress, or a new one."""
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        return cls(kept["position"], kept["rows"], kept["accepted"], Counter(kept["refused"]))

    def save(self, path: Path) -> None:
        """Store it atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.__dict__))
        unfinished.rename(path)


@dataclass(frozen=True)
class Lines:
    """Lines of JSON; positions are bytes."""

    path: Path

    @property
    def origin(self) -> str:
        """An id that distinguishes this file from others, also after it has grown or moved."""
        with self.path.open("rb") as file:
            return file.readline().decode(errors="replace")

    def end(self) -> int:
        """Return the position behind the last row."""
        return self.path.stat().st_size

    def rows(self, start: int, number: int) -> Iterator[Row]:
        """Yield rows from a position on; the first one has the number after `number`."""
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                number += 1
                text = line.decode(errors="replace").strip()
                start += len(line)
                if text:
                    yield Row(_object(text), text, start, number)


@dataclass(frozen=True)
class Table:
    """The predecessor's database, opened for reading only; positions are rowids."""

    path: Path

    @property
    def origin(self) -> str:
        """An id of this database, from the id of its first row."""
        with self._open() as connection:
            found = connection.execute(f"SELECT id FROM {self._name(connection)} ORDER BY rowid LIMIT 1").fetchone()
        return f"alembic {found[0] if found else ''}"

    def end(self) -> int:
        """Return the last rowid."""
        with self._open() as connection:
            (last,) = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {self._name(connection)}").fetchone()
        return int(last)

    def rows(self, start: int, number: int) -> Iterator[Row]:
        """Yield rows behind a position."""
        with self._open() as connection:
            connection.row_factory = sqlite3.Row
            query = f"SELECT rowid AS position, * FROM {self._name(connection)} WHERE rowid > ? ORDER BY rowid"
            for row in connection.execute(query, [start]):
                number += 1
                values = dict(row)
                yield Row(values, "", values.pop("position"), number)

    def _open(self) -> "closing[sqlite3.Connection]":
        return closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True))

    def _name(self, connection: sqlite3.Connection) -> str:
        """Return the quoted name of the table of raw events. Raises UsageFault."""
        try:
            names: list[str] = [
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            ]
            for name in names:
                quoted = '"' + name.replace('"', '""') + '"'
                if {column[1] for column in connection.execute(f"PRAGMA table_info({quoted})")} >= _COLUMNS:
                    return quoted
        except sqlite3.DatabaseError as error:
            raise UsageFault(f"{self.path} is no SQLite database: {error}") from error
        raise UsageFault(f"{self.path} has no table with the columns {', '.join(sorted(_COLUMNS))}")


@app.command()
def insights(as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show the leaderboard: speed and size reduction of each encoder and hardware; --json adds the failures.

    \b
    Examples:
      kinolog telemetry insights
      kinolog telemetry insights --as-of 2026-11-20T18:00
    """
    with connected() as api:
        found = api.get("/api/insights", as_of=as_of)
    if as_json:
        document(found)
        return
    table(
        found["leaderboard"],
        {
            "hardware": lambda row: row["hardware"],
            "encoder": lambda row: row["encoder"],
            "codec": lambda row: row["codec"],
            "resolution": lambda row: row["res"],
            "speed": lambda row: f"{row['speed']:.1f}x",
            "smaller by": lambda row: f"{row['reduction']:.0%}",
            "samples": lambda row: row["samples"],
        },
        as_json=False,
        empty="nobody has reported a job yet",
    )


@app.command("import")
def import_lines(
    file: Annotated[Path, typer.Argument(help="Lines of JSON, each as for POST /v1/event; `created_at` and `id` are used.")],
    as_json: AsJson = False,
) -> None:
    """Put reports from lines of JSON onto the log, each line once: run it again after a break, or when the file has grown.

    A line counts under its `event_id`, else under an id made of its `id`, else of its number and words; at its `created_at`.
    Values that could identify a person are refused, and counted by field.

    \b
    Examples:
      kinolog telemetry import history.ndjson
    """
    _report(asyncio.run(_import(Lines(_there(file)))), file, as_json=as_json)


@app.command("import-sqlite")
def import_sqlite(
    file: Annotated[Path, typer.Argument(help="The predecessor's alembic.db; it is not changed.")],
    as_json: AsJson = False,
) -> None:
    """Put the raw events of the predecessor's database onto the log, each row once, at the time when it was stored.

    Speeds are held to 0..1,000,000. Values that could identify a person are refused, and counted by field.

    \b
    Examples:
      kinolog telemetry import-sqlite alembic.db
    """
    _report(asyncio.run(_import(Table(_there(file)))), file, as_json=as_json)


def _there(file: Path) -> Path:
    if not file.is_file():
        raise UsageFault(f"{file}: there is no such file")
    return file


def _report(done: Imported, file: Path, *, as_json: bool) -> None:
    if as_json:
        document({"file": str(file), "rows": done.rows, "accepted": done.accepted, "refused": done.refused})
        return
    note(f"{file}: {done.rows} rows, {done.accepted} on the log" + (", refused by field:" if done.refused else ""))
    for name, count in sorted(done.refused.items()):
        note(f"  {name}: {count}")


async def _import(source: Lines | Table) -> Imported:
    from infra.commands.support.services import settings_of_services
    from producers.imports import NAMESPACE

    settings = settings_of_services()
    checkpoint = settings.var_dir / "imports" / f"{uuid5(NAMESPACE, source.origin)}.json"
    done = Imported.load(checkpoint)
    if done.position:
        note(f"going on from {checkpoint}, after {done.rows} rows")
    await import_from(source, done, checkpoint, settings)
    return done


async def import_from(source: Lines | Table, done: Imported, checkpoint: Path, settings: "Settings") -> None:
    """Put the rows after `done` onto the log; `done` moves, in memory and in its file, with each acknowledged batch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from events.topics import TELEMETRY
    from infra.runtime import kafka
    from infra.runtime.appender import appender_of

    await kafka.ensure_topics(settings, [TELEMETRY])
    appender = appender_of(settings, timeout_s=30)
    await appender.start()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(source.path.name, total=source.end(), completed=done.position)
            rows, origin = source.rows(done.position, done.rows), source.origin
            while batch := list(islice(rows, BATCH_ROWS)):
                records, refused = _judge(batch, origin, datetime.now(UTC))
                if records:
                    await appender.offer(TELEMETRY, records)
                done.position, done.rows = batch[-1].next, batch[-1].number
                done.accepted += len(records)
                done.refused += refused
                done.save(checkpoint)
                bars.update(bar, completed=done.position)
    finally:
        await appender.stop()


def _judge(rows: list[Row], origin: str, now: datetime) -> tuple[list[tuple[bytes, bytes, int]], Counter[str]]:
    """Return the records of rows, and the number of refusals by field."""
    from producers.anonymity import Refused
    from producers.imports import record_of, row_id

    records, refused = [], Counter[str]()
    for row in rows:
        if row.values is None:
            refused["line"] += 1
            continue
        try:
            event_id = row_id(row.values, number=row.number, origin=origin, line=row.line)
            records.append(record_of(row.values, event_id, now))
        except Refused as error:
            refused[error.field] += 1
    return records, refused


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

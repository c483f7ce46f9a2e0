"""Output of commands: tables or JSON on standard output, everything else on standard error."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for programs.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", help="The state at this moment: a time (ISO 8601, UTC), or topic:partition=offset,….")
]
Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], object]]
"""Heading -> the cell under it, the most important column first: a narrow terminal leaves out the last ones."""
WIDTH_MIN = 20
"""Least width of a column in characters: times and short ids stay whole."""
GAP = "  "


def note(text: str) -> None:
    """Write a message to standard error."""
    sys.stderr.write(f"{text}\n")


def line(text: str) -> None:
    """Print one line of the answer."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def document(value: object, *, indent: int | None = None) -> None:
    """Print a value as JSON: one line, or indented for people. Times are ISO 8601."""
    line(json.dumps(value, ensure_ascii=False, default=_plain, indent=indent))


def done(sentence: str, *, as_json: bool) -> None:
    """Print that something is done."""
    if as_json:
        document({"ok": True})
    else:
        line(sentence)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(rows: Iterable[Row], columns: Columns, *, as_json: bool, empty: str = "nothing") -> None:
    """Print rows as a JSON array or as a table; without rows, write the message `empty`."""
    found = list(rows)
    if as_json:
        document(found)
        return
    if not found:
        note(empty)
        return
    _print_table(list(columns), [[_text(cell(row)) for cell in columns.values()] for row in found])


def fields(item: Row, *, as_json: bool) -> None:
    """Print one thing as a JSON object or as name and value, line by line."""
    if as_json:
        document(item)
        return
    width = max(map(len, item), default=0)
    for name, value in item.items():
        nested = isinstance(value, dict | list) and value
        line(f"{name:<{width}}  {json.dumps(value, ensure_ascii=False, default=str) if nested else _text(value)}")


@contextmanager
def progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on standard error, if that is a terminal; yields its setter: (description, done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console, texts = Console(file=sys.stderr), (TextColumn("{task.description}", markup=False), TextColumn("{task.fields[rate]}"))
    columns = (texts[0], BarColumn(), TaskProgressColumn(), texts[1], TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(name, total=None, rate="")

        def on_progress(what: str, done: int, total: int) -> None:
            rate = f"{bar.tasks[task].speed or 0:,.0f}/s"
            bar.update(task, description=what, completed=done, total=total, rate=rate)

        yield on_progress


def _print_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print one row per line: in full into a file or pipe, cut to its width on a terminal."""
    from rich.cells import cell_len, set_cell_size

    headings = [printable(heading) for heading in headings]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    terminal = sys.stdout.isatty()
    if terminal:
        widths = fit(widths, shutil.get_terminal_size().columns)

    def row(texts: Sequence[str]) -> str:
        shown = (text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…" for text, width in zip(texts, widths))  # noqa: B905
        return GAP.join(set_cell_size(text, width) for text, width in zip(shown, widths, strict=True)).rstrip()

    line(f"\033[1m{row(headings)}\033[0m" if terminal else row(headings))
    for texts in cells:
        line(row(texts))
    if hidden := headings[len(widths) :]:
        note(f"no room for: {', '.join(hidden)}; a wider terminal or --json shows them")


def fit(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths of the columns that fit into `room` characters, the first ones; the widest are narrowed first. Pure.

    >>> fit([8, 60, 9], 80), fit([8, 9, 60, 30], 60), fit([8, 20, 20, 20], 60)
    ([8, 59, 9], [8, 9, 37], [8, 20, 20])
    """
    for count in range(len(widths), 0, -1):
        fitted = list(widths[:count])
        while (over := sum(fitted) + len(GAP) * (count - 1) - room) > 0 and max(fitted) > WIDTH_MIN:
            widest = max(range(count), key=fitted.__getitem__)
            second = max((width for number, width in enumerate(fitted) if number != widest), default=0)
            fitted[widest] = max(fitted[widest] - over, min(second, fitted[widest] - 1), WIDTH_MIN)
        if over <= 0 or count == 1:
            return fitted
    return []


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, datetime):
        return moment(value)
    return printable(f"{value:.1f}" if isinstance(value, float) else str(value))


def printable(text: str) -> str:
    """Return the text without control characters (cursor, colours); joiners in emoji and Persian stay."""
    from events.text import JOINERS  # help is printed without pydantic

    return "".join(character if character.isprintable() or character in JOINERS else "�" for character in text)


def moment(time: datetime | str | None, *, milliseconds: bool = False) -> str:
    """Return a time in UTC as `--as-of` takes it, to the second or millisecond: `2026-11-20T18:00:00Z`. Text is ISO 8601."""
    if not time:
        return "–"
    found = datetime.fromisoformat(time) if isinstance(time, str) else time
    found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)
    return found.isoformat(timespec="milliseconds" if milliseconds else "seconds") + "Z"


def short(id_: str | None) -> str:
    """Return the short form of an id, which every command takes; `job:epoch` keeps its epoch."""
    from projections.short_ids import short_id

    head, colon, epoch = (id_ or "–").partition(":")
    return f"{short_id(head)}{colon}{epoch}"


def size(size_bytes: int | None) -> str:
    """Return a size in binary units, as `1.5 MiB`."""
    if size_bytes is None:
        return "–"
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(duration_ms: int | None) -> str:
    """Return a duration as `1:02:03`."""
    if duration_ms is None:
        return "–"
    minutes, seconds = divmod(round(duration_ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

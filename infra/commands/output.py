"""What commands print: tables or JSON on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for programs.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", help="Answer as it was then: a time (ISO 8601, UTC), or topic:partition=offset,….")
]
Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], object]]
"""Heading -> what stands under it."""


def note(text: str) -> None:
    """Say something to the person; never on standard output."""
    sys.stderr.write(f"{text}\n")


def line(text: str) -> None:
    """Print one line of the answer."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def document(value: object, *, indent: int | None = None) -> None:
    """Print a value as JSON: one line, or indented for people."""
    line(json.dumps(value, ensure_ascii=False, default=str, indent=indent))


def table(rows: Iterable[Row], columns: Columns, *, as_json: bool, empty: str = "nothing") -> None:
    """Print rows as a JSON array or as a table; `empty` is said when there is none."""
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
    """Show a progress bar on standard error, none when nobody watches; yields what moves it: (what, done, of how much)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console, texts = Console(file=sys.stderr), (TextColumn("{task.description}"), TextColumn("{task.fields[rate]}"))
    columns = (texts[0], BarColumn(), TaskProgressColumn(), texts[1], TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(name, total=None, rate="")

        def report(what: str, done: int, total: int) -> None:
            rate = f"{bar.tasks[task].speed or 0:,.0f}/s"
            bar.update(task, description=what, completed=done, total=total, rate=rate)

        yield report


def _print_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    grid = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, show_edge=False)
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, width=None if terminal else 200, highlight=False).print(grid)


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    return printable(f"{value:.1f}" if isinstance(value, float) else str(value))


def printable(text: str) -> str:
    """Return the text without what would move a terminal's cursor or colour it."""
    return "".join(character if character.isprintable() else "�" for character in text)


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

"""Tables of sums over another table's rows: the days of all sessions, the videos of all days.

A row contributes to sums, as rows of the table of sums that hold this row's share. When it changes, its old share is subtracted and
its new one added, in the transaction that writes the row. So a sum is exact, costs the same with ten rows or ten million behind
it, and is restated with the rows by a rebuild.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

from projections.folding.fold import Change, ChangesOf, Key, Table

R = TypeVar("R")
S = TypeVar("S")


def sums(name: str, row: type[S], key: tuple[str, ...], of: str, shares: Callable[[R], Iterable[S]]) -> Table[S]:
    """Return a table of sums: `shares` returns the shares of a row of table `of`, at most one under each key.

    All columns but the key's are integers that can be added. A sum of nothing but zeros has no row.
    """
    amounts = tuple(field.name for field in fields(row) if field.name not in key)  # type: ignore[arg-type]

    def key_of(share: S) -> Key:
        return tuple(getattr(share, column) for column in key)

    def by_key(source: R | None) -> dict[Key, S]:
        return {} if source is None else {key_of(share): share for share in shares(source)}

    def differences(change: Change[R]) -> Iterator[S]:
        before, after = by_key(change.before), by_key(change.after)
        for one in before | after:
            was, now = before.get(one), after.get(one)
            if was != now:
                yield _combined(now or _zero(was, amounts), was, amounts, -1)

    def add(total: S | None, difference: S) -> S | None:
        total = difference if total is None else _combined(total, difference, amounts, 1)
        return total if any(getattr(total, amount) for amount in amounts) else None

    return Table(name, row, key, lambda share: (key_of(share),), add, ChangesOf(of, differences), amounts)


def _combined(one: Any, other: Any | None, amounts: tuple[str, ...], sign: int) -> Any:
    if other is None:
        return one
    return replace(one, **{amount: getattr(one, amount) + sign * getattr(other, amount) for amount in amounts})


def _zero(share: Any, amounts: tuple[str, ...]) -> Any:
    return replace(share, **dict.fromkeys(amounts, 0))

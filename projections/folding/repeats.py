"""Folds that meet an event twice: it may stand on the log again after a crash, even behind events that came after it.

What comes twice comes under the same id. So a row that an event could set back (archived, restored, archived again?)
remembers the ids that it was made of, in its column `seen`, and drops what it has met.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ClassVar, Protocol, TypeVar

from events.envelope import E, Recorded

SEEN_MAX = 64
"""Ids that a row remembers. A repetition follows its original within one batch of a process that crashed."""


class _Remembering(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seen(self) -> tuple[str, ...]: ...


R = TypeVar("R", bound=_Remembering)


def once(evolve: Callable[[R | None, Recorded[E]], R | None]) -> Callable[[R | None, Recorded[E]], R | None]:
    """Return the fold that sees each event once, also those that it ignores."""

    @wraps(evolve)
    def evolve_once(row: R | None, recorded: Recorded[E]) -> R | None:
        event_id = recorded.envelope.id
        if row is not None and event_id in row.seen:
            return row
        after = evolve(row, recorded)
        return None if after is None else replace(after, seen=(*after.seen, event_id)[-SEEN_MAX:])

    return evolve_once

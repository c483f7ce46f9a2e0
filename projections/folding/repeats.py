"""Folds of repeated events: after a crash an event may be on the log again, even behind later events.

Repetitions have the same id. So a row that a repetition could set back (archived, restored, archived again?) remembers the ids of
its events in its column `seen`, and drops repetitions.
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
    """Return a fold that gets each event once and remembers all ids, also of events that it ignores."""

    @wraps(evolve)
    def evolve_once(row: R | None, recorded: Recorded[E]) -> R | None:
        event_id = recorded.envelope.id
        if row is not None and event_id in row.seen:
            return row
        after = evolve(row, recorded)
        return None if after is None else replace(after, seen=(*after.seen, event_id)[-SEEN_MAX:])

    return evolve_once

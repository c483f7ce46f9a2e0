"""Time, ids and chance are arguments, so that every decision can be repeated from the recorded events."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The only source of time. `infra.runtime.clock.SystemClock` is the real one; simulations pass a virtual clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; a virtual clock only advances its own time."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a pure producer or decider may know besides its input.

    `now` is aware UTC; `new_id` returns a fresh UUIDv7 string; `source` names the process that writes (CloudEvents
    `source`); `correlation_id` links everything that follows from one request of a person or node.
    """

    now: datetime
    new_id: Callable[[], str]
    source: str
    correlation_id: str | None = None
    rng: random.Random | None = None

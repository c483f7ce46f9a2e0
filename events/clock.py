"""Time, ids and chance are passed in, so that every decision can be made again from what was recorded."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The only way to time. Its real twin is `infra.runtime.clock.SystemClock`; simulations pass a virtual one."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; a virtual clock only moves itself forward."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a pure producer or decider may know besides its input.

    `now` is aware UTC; `new_id` returns a fresh UUIDv7 string; `source` names the process that speaks (CloudEvents
    `source`); `correlation_id` ties together everything that follows from one request of a person or node.
    """

    now: datetime
    new_id: Callable[[], str]
    source: str
    correlation_id: str | None = None
    rng: random.Random | None = None

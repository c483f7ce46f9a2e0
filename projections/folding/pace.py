"""Work that nobody waits for, on processors that others wait for: it rests between its turns.

A low priority is not enough. Whoever wakes up waits until a process that yields has used up its slice (1.4 ms on two cores), and
PostgreSQL writes for it at its own priority. Beside a rebuild that was only nice an event took 1.9 to 2.5 times as long (p99).
"""

from asyncio import sleep
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

CROWDED = 0.05
"""Somebody else wants the processors when a turn waits for them this share of its time: it is 0.02 at most on an idle machine
of two cores, and 0.1 to 0.2 where the telemetry app takes all it can."""
KEPT = 0.995
"""What a turn's times still count when the next one has come: some hundred turns are looked at, a tenth of a second."""
WORKED_MAX_S = 0.05
"""So long at most was worked: more was waiting for something."""
RESTS = 3.0
"""How long who rests does so, in units of the work before it: a rebuild goes on at a quarter of its speed."""


class Pace:
    """Tells work to rest `rests` times as long as it took, while the machine is crowded; at 0, it only lets the event loop go on.

    `wall` and `processor` are clocks in seconds: of the time that goes by, and of that which this thread computes.
    """

    def __init__(
        self, rests: float = 0.0, *, wall: Callable[[], float] = perf_counter, processor: Callable[[], float] = thread_time
    ) -> None:
        self._rests = rests
        self._wall = wall
        self._processor = processor
        self._took = self._computed = 0.0
        self._began = wall()

    @property
    def crowded(self) -> bool:
        """Whether turns had to wait for a processor lately."""
        return self._took - self._computed > CROWDED * self._took

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Look at a piece of work that waits for nothing but a processor."""
        wall, processor = self._wall(), self._processor()
        yield
        self._took = KEPT * self._took + self._wall() - wall
        self._computed = KEPT * self._computed + self._processor() - processor

    async def rest(self) -> None:
        """Let others go first, after what was done since the last rest."""
        worked_s = min(self._wall() - self._began, WORKED_MAX_S)
        await sleep(self._rests * worked_s if self.crowded else 0)
        self._began = self._wall()

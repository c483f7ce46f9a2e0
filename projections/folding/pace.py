"""Rests between the turns of background work, on processors that other work waits for.

A low priority is not enough. A process that wakes up waits until a nice one has used up its slice (1.4 ms on two cores), and
PostgreSQL writes for the nice one at its own priority. Beside a rebuild that was only nice, an event took 1.9 to 2.5 times as long
(p99).
"""

from asyncio import sleep
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

CROWDED = 0.05
"""Share of its time that a turn waits for a processor on a crowded machine: at most 0.02 on an idle machine of two cores, and
0.1 to 0.2 beside a saturated telemetry app."""
KEPT = 0.995
"""Decay factor per turn: about a hundred turns count, a tenth of a second."""
WORKED_MAX_S = 0.05
"""Maximum time that counts as a turn: a longer one waited for something."""
RESTS = 3.0
"""Rest in multiples of the work before it: a resting rebuild runs at a quarter of its speed."""


class Pace:
    """Makes work rest `rests` times as long as it took, while the machine is crowded; at 0, it only lets the event loop go on.

    `wall` and `processor` are clocks in seconds: of elapsed time, and of this thread's processor time.
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
        """Measure a piece of work that waits only for a processor."""
        wall, processor = self._wall(), self._processor()
        yield
        self._took = KEPT * self._took + self._wall() - wall
        self._computed = KEPT * self._computed + self._processor() - processor

    async def rest(self) -> None:
        """Rest in proportion to the work since the last rest."""
        worked_s = min(self._wall() - self._began, WORKED_MAX_S)
        await sleep(self._rests * worked_s if self.crowded else 0)
        self._began = self._wall()

"""Ends a process whose loop hangs and cannot be cancelled, so that its supervisor restarts it.

A thread of its own watches, because a loop that never awaits blocks the event loop and all watchers on it. The turns of that
thread count the time: a process that was stopped and continues did not hang meanwhile.
"""

import asyncio
import faulthandler
import os
import threading
from collections.abc import Callable

import structlog

from events.pulse import Pulse

EXIT_CODE = 70
"""sysexits.h: internal software error."""
LOOKS = 8
"""Looks per limit."""
PATIENCE = 2
"""A loop is cancelled after one limit without a beat; the process ends after as many."""
log = structlog.get_logger(__name__)


def end_process() -> None:
    """Write where every thread stands to standard error, and end at once: nothing can be awaited any more."""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(EXIT_CODE)


class Watchdog:
    """Watches the pulses that it gave out, and the event loop that `start` was called in."""

    def __init__(self, limit_s: float, end: Callable[[], None] = end_process) -> None:
        self._limit_s = limit_s
        self._end = end
        self._pulses = [Pulse("the event loop", limit_s)]
        self._last: dict[Pulse, tuple[int, int]] = {}
        self._stopping = threading.Event()

    def pulse(self, name: str) -> Pulse:
        """Return the pulse for a loop."""
        pulse = Pulse(name, self._limit_s)
        self._pulses.append(pulse)
        return pulse

    def start(self) -> None:
        """Begin to watch."""
        loop, thread = asyncio.get_running_loop(), threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._pulses[0].watched = 1
        self._turn_of = loop
        thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()

    def _watch(self) -> None:
        turn = 0
        while not self._stopping.wait(self._limit_s / LOOKS):
            if self._turn_of.is_closed():
                return
            turn += 1
            if hung := self._hung(turn):
                log.critical("process_hangs", loops=hung, limit_s=self._limit_s)
                self._end()
                return
            self._turn_of.call_soon_threadsafe(self._pulses[0].beat)

    def _hung(self, turn: int) -> list[str]:
        """Return the names of loops that did not beat for too many turns."""
        hung = []
        for pulse in list(self._pulses):
            beats, since = self._last.get(pulse, (-1, turn))
            if not pulse.watched or pulse.beats != beats:
                self._last[pulse] = pulse.beats, turn
            elif turn - since > PATIENCE * LOOKS:
                hung.append(pulse.name)
        return hung

"""A loop that hangs is cancelled; one that cannot be cancelled, or that blocks the event loop, ends its process."""

import asyncio
import subprocess
import sys
import threading

import pytest

from events.errors import Stalled
from events.pulse import Pulse
from infra.runtime.watchdog import EXIT_CODE, Watchdog
from tests.support.waiting import eventually


async def test_a_block_that_hangs_is_cancelled_and_named() -> None:
    pulse = Pulse("a loop", 0.01)
    with pytest.raises(Stalled, match="a loop showed no sign of life"):
        async with pulse.limited():
            await asyncio.Event().wait()
    assert pulse.watched == 0


async def test_signs_of_life_keep_a_block_going() -> None:
    """However short the time between two may be, however long they go on."""
    pulse = Pulse("a loop", 3600)
    async with pulse.limited():
        before = pulse._timeout
        assert before is not None
        first = before.when()
        loop = asyncio.get_running_loop()
        now = loop.time()
        await eventually(lambda: loop.time() > now)
        pulse.beat()
        assert first is not None and (before.when() or 0) > first


async def test_what_times_out_within_is_not_called_hung() -> None:
    async def too_slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with Pulse("a loop", 3600).limited():
            await too_slow()


async def test_a_loop_that_cannot_be_cancelled_ends_the_process_and_one_that_rests_does_not() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.05, ended.set)
    resting, hung = watchdog.pulse("resting"), watchdog.pulse("hung")
    with resting.watching():
        resting.beat()
    watchdog.start()
    with hung.watching():
        await asyncio.to_thread(ended.wait)
    assert not resting.watched


BLOCKING = """
import asyncio, time
from infra.runtime.watchdog import Watchdog

async def main():
    Watchdog(0.2).start()
    await asyncio.sleep(0.01)
    while True:
        time.sleep(1)

asyncio.run(main())
"""


def test_an_event_loop_that_is_blocked_ends_the_process_which_says_where() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKING], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == EXIT_CODE
    assert "process_hangs" in done.stdout + done.stderr and "the event loop" in done.stdout + done.stderr
    assert "in main" in done.stderr, "where the event loop hangs"

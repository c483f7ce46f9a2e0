"""A broker that goes away makes its clients speak hundreds of times a second: lines that repeat are counted, none is lost."""

import io
import json
import logging
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from infra.runtime import logs


class Clock:
    """Seconds that pass on demand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown(logging.Formatter):
    """The name, the words and how many lines it stands for."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps([record.getMessage(), getattr(record, "repeated", 0)])


def handler(clock: Clock) -> tuple[logs.CountingHandler, Callable[[], list[tuple[str, int]]]]:
    stream = io.StringIO()
    made = logs.CountingHandler(stream, clock)
    made.setFormatter(Shown())
    return made, lambda: [tuple(json.loads(line)) for line in stream.getvalue().splitlines()]


def say(to: logging.Handler, text: str, level: int = logging.ERROR, name: str = "kafka") -> None:
    to.handle(logging.LogRecord(name, level, "a.py", 1, text, None, None))


def test_a_storm_of_a_minute_is_a_line_each_half_minute() -> None:
    clock = Clock()
    to, written = handler(clock)
    for number in range(6000):
        clock.now = number / 100
        say(to, f"Connect to 127.0.0.1:9092 failed (after {number}ms in state CONNECT)")
    to.close()
    found = written()
    assert len(found) == 3
    assert [count for _, count in found] == [0, 2999, 3000]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from("abcdef"), st.sampled_from([logging.INFO, logging.ERROR])), max_size=200)
)
def test_every_line_is_written_or_counted(lines: list[tuple[float, str, int]]) -> None:
    clock = Clock()
    to, written = handler(clock)
    for after, text, level in lines:
        clock.now += after
        say(to, text, level)
    to.close()
    counted: Counter[str] = Counter()
    for text, repeated in written():
        counted[text] += repeated or 1
    assert counted == Counter(text for _, text, _ in lines)


def test_what_is_everyday_is_always_written() -> None:
    to, written = handler(Clock())
    for _ in range(3):
        say(to, "job_claimed", logging.INFO)
    assert len(written()) == 3


def test_kinds_without_end_take_no_memory_without_end() -> None:
    to, written = handler(Clock())
    for number in range(3 * logs.KINDS_MAX):
        say(to, f"{chr(0x4E00 + number)}")
    assert len(to._kinds) <= logs.KINDS_MAX
    assert len(written()) == 3 * logs.KINDS_MAX

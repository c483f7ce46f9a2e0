"""Dead letters: each fits on the log, is buried once, and counts although the process that buried it has ended."""

import base64
import json
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidEvent
from events.topics import VIDEOS
from processors.agents.dead_letters import VALUE_BYTES_MAX, Grave, Graves, Limit, TooManyDeadLetters, decode, encode, grave_of
from producers.appender import EVENT_BYTES_MAX
from projections.folding.log import DeadLetter


def test_the_letter_of_a_record_of_any_length_fits() -> None:
    value = bytes(range(256)) * 4000
    letter = encode(DeadLetter(VIDEOS.name, 3, 4711, "not JSON: " + "x" * 500, value, "catalog"))

    members = json.loads(letter)

    assert len(letter) < EVENT_BYTES_MAX
    assert base64.b64decode(members["value"]) == value[:VALUE_BYTES_MAX]
    assert (members["value_bytes"], members["partition"], members["offset"]) == (len(value), 3, 4711)


def test_letters_of_older_versions_are_read() -> None:
    """They name no reader, or not how long the record was."""
    old = {"topic": "videos", "partition": 1, "offset": 2, "reason": "not JSON", "value": base64.b64encode(b"{").decode()}
    assert decode(json.dumps(old).encode()) == (DeadLetter("videos", 1, 2, "not JSON", b"{"), 1)
    letter = DeadLetter("videos", 1, 2, "not JSON", b"x" * (VALUE_BYTES_MAX + 1), "catalog")
    assert decode(encode(letter)) == (letter._replace(value=letter.value[:-1]), VALUE_BYTES_MAX + 1)


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[]", b"{}", b'{"value": 1}', b"\xff", b'{"topic": "a", "partition": [], "value": ""}']
)
def test_what_is_no_letter_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode(value)


# --- over restarts ----------------------------------------------------------------------------------------------------


class Topic:
    """The topic of dead letters of one reader, and processes that read and bury."""

    def __init__(self, letters_max: int, share_max: float) -> None:
        self.letters: list[DeadLetter] = []
        self._limits = letters_max, share_max

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    async def recall(self, reader: str, topic: str) -> Collection[Grave]:
        return [grave_of(letter) for letter in self.letters if (letter.reader, letter.topic) == (reader, topic)]

    def graves(self, *, in_order: bool = True) -> Graves:
        """Return the graves of a process that begins."""
        return Graves(self.bury, self.recall, "catalog", Limit(*self._limits), in_order=in_order)


def letters_of(bad: Collection[int], start: int, stop: int) -> list[DeadLetter]:
    """Return the letters of a stretch."""
    return [DeadLetter(VIDEOS.name, 0, offset, "not JSON", b"{") for offset in range(start, stop) if offset in bad]


@given(
    st.lists(st.booleans(), min_size=1, max_size=120),
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from(("goes on", "restarts", "crashes"))), max_size=60),
)
async def test_however_often_a_process_starts_again_each_record_is_buried_once_and_no_more_than_the_limit(
    junk: list[bool], turns: list[tuple[int, str]]
) -> None:
    """A process that crashes has buried what it read, and committed nothing."""
    bad = {offset for offset, is_bad in enumerate(junk) if is_bad}
    topic = Topic(letters_max=5, share_max=0.1)
    graves, position = topic.graves(), 0
    for count, end in turns:
        stop = min(len(junk), position + count)
        if stop == position:
            break
        try:
            await graves.bury(letters_of(bad, position, stop), read=stop - position)
        except TooManyDeadLetters:
            stop = position
        if end != "crashes":
            position = stop
            graves.passed(count, {(VIDEOS.name, 0): position})
        if end != "goes on":
            graves = topic.graves()
    buried = [grave_of(letter) for letter in topic.letters]
    assert len(buried) == len(set(buried))
    assert len(buried) <= 5 or len(buried) <= 0.1 * 2 * len(junk)


async def test_a_restart_does_not_begin_the_count_anew() -> None:
    topic = Topic(letters_max=3, share_max=0.5)
    await topic.graves().bury(letters_of({0, 1, 2}, 0, 3), read=3)
    with pytest.raises(TooManyDeadLetters, match="4 of"):
        await topic.graves().bury(letters_of({3}, 3, 4), read=1)
    assert len(topic.letters) == 3


async def test_what_an_earlier_process_buried_long_ago_stops_nobody() -> None:
    topic = Topic(letters_max=3, share_max=0.1)
    await topic.graves().bury(letters_of({0, 1, 2}, 0, 3), read=3)
    await topic.graves().bury(letters_of({999}, 999, 1000), read=1)
    assert len(topic.letters) == 4


async def test_an_effect_offered_again_that_fails_again_is_buried_again() -> None:
    topic = Topic(letters_max=3, share_max=0.1)
    for _ in range(2):
        await topic.graves(in_order=False).bury(letters_of({7}, 7, 8), read=1)
    assert [letter.offset for letter in topic.letters] == [7, 7]


async def test_what_is_read_again_counts_once_and_what_is_read_without_letters_counts() -> None:
    again = Topic(letters_max=1, share_max=0.1).graves()
    for _ in range(100):
        await again.bury(letters_of({0}, 0, 1), read=1)
    again.passed(1, {(VIDEOS.name, 0): 1})
    with pytest.raises(TooManyDeadLetters):
        await again.bury(letters_of({1}, 1, 2), read=1)

    good = Topic(letters_max=1, share_max=0.1).graves()
    for offset in range(100):
        await good.bury(letters_of({0, 99}, offset, offset + 1), read=1)
        good.passed(1)

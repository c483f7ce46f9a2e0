"""`kinolog events dead retry` decides about each letter by itself, also about those of other versions."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from events.codec import encode
from infra.commands.dead import Letter, _letter, _verdict
from processors.agents.dead_letters import encode as encode_letter
from projections.folding.log import DeadLetter
from tests.support.expiring import started
from tests.support.footage import START, VIDEO_ID

BOTH = ("files", "planning", "announcing")
EVENT = encode(started(VIDEO_ID, START))


def letter(feed: str, topic: str = "videos", value: bytes = EVENT, value_bytes: int | None = None) -> Letter:
    """Return a letter about a record."""
    return Letter("videos.dead/0/1", datetime(2026, 3, 1, tzinfo=UTC), feed, topic, 0, 7, "why", value, value_bytes or len(value))


@pytest.mark.parametrize(
    ("given", "feeds", "words"),
    [
        (letter("planning"), ("planning",), ["offered again"]),
        (letter("catalog"), (), ["run: kinolog rebuild catalog"]),
        (
            letter(""),
            ("files", "planning", "announcing"),
            ["does not name the feed", "offered to files, planning", "kinolog rebuild catalog"],
        ),
        (
            letter("of-yesterday"),
            ("files", "planning", "announcing"),
            ["no feed of this code is called of-yesterday", "kinolog rebuild timeline"],
        ),
        (letter("", "progress"), (), ["does not name the feed", "run: kinolog rebuild progress"]),
        (letter("", "no-topic"), (), ["does not name the feed"]),
        (letter("planning", value=b"{"), (), ["cannot read it either"]),
        (letter("planning", value=EVENT[:9], value_bytes=len(EVENT)), (), ["longer than a letter holds", "videos/0/7"]),
    ],
)
def test_what_becomes_of_a_letter(given: Letter, feeds: tuple[str, ...], words: list[str]) -> None:
    verdict = _verdict(given)
    assert verdict.feeds == feeds
    assert all(word in verdict.sentence for word in words), verdict.sentence


def test_a_record_that_is_no_letter_is_listed_as_what_it_is() -> None:
    def read(value: bytes | None) -> Letter:
        record: Any = SimpleNamespace(topic="p.videos.dead", partition=0, offset=3, timestamp=1000, value=value)
        return _letter(record, "p.")

    good = DeadLetter("videos", 2, 9, "not JSON", b"{", "catalog")
    assert read(encode_letter(good))[2:] == ("catalog", "videos", 2, 9, "not JSON", b"{", 1)
    for value in (b"hello", None):
        found = read(value)
        assert (found.id, found.feed, found.topic, found.value) == ("videos.dead/0/3", "", "videos", value or b"")
        assert "no dead letter" in found.reason

"""What cannot be read is put aside, however long it is: a letter fits on the log as well."""

import base64
import json

from events.topics import VIDEOS
from processors.agents.dead_letters import VALUE_BYTES_MAX, encode
from producers.appender import EVENT_BYTES_MAX
from projections.folding.log import DeadLetter


def test_the_letter_of_a_record_of_any_length_fits() -> None:
    value = bytes(range(256)) * 4000
    letter = encode(DeadLetter(VIDEOS.name, 3, 4711, "not JSON: " + "x" * 500, value, "catalog"))

    told = json.loads(letter)

    assert len(letter) < EVENT_BYTES_MAX
    assert base64.b64decode(told["value"]) == value[:VALUE_BYTES_MAX]
    assert (told["value_bytes"], told["partition"], told["offset"]) == (len(value), 3, 4711)

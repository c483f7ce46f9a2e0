"""Any event of any topic can be archived; its columns have its values, and its record comes back byte for byte."""

import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.codec import encode
from events.envelope import Envelope, Event
from events.topics import TOPIC_OF
from projections.history.parquet import NO_LINK, column_of, parsed, read_segment, write_segment
from tests.support.strategies import EVENT_TYPES, envelopes


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.TYPE)
@settings(max_examples=8)
@given(data=st.data())
def test_an_event_is_archived_with_its_values(kind: type[Event], data: st.DataObject) -> None:
    written: list[Envelope[Event]] = data.draw(st.lists(envelopes(kind), min_size=1, max_size=5))
    records = [(offset, encode(envelope)) for offset, envelope in enumerate(written)]
    file, _ = write_segment(TOPIC_OF[kind.TYPE].name, 0, parsed(records), NO_LINK)
    assert list(read_segment(file)) == records
    column: list[dict[str, Any]] = pq.read_table(io.BytesIO(file), columns=[column_of(kind)])[0].to_pylist()
    for envelope, row in zip(written, column, strict=True):
        for name, value in envelope.data:
            if value is None or isinstance(value, str | int | float):
                assert row[name] == value
                assert value is None or isinstance(row[name], type(value)), "a number stays a number"
            else:
                assert row[name] is not None

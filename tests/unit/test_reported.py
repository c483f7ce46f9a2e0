"""Reports are read in a way of their own, and mean the same as what `events.codec` reads."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from events.codec import decode
from events.errors import InvalidEvent
from events.telemetry import TelemetryReported
from projections.reported import Report, read
from tests.support.footage import id_of

ID = id_of("report 1")
ENVELOPE = {
    "specversion": "1.0",
    "id": ID,
    "source": "kinolog/telemetry",
    "type": TelemetryReported.TYPE,
    "subject": ID,
    "time": "2026-03-01T12:00:00Z",
    "correlationid": ID,
}
REPORT = {"app_version": "1.0.0", "event_type": "job_finished"}
FIELDS = tuple(TelemetryReported.model_fields)
odd = st.sampled_from(
    (None, "", "x", "Ünï", 'a"b', "a\\b", "a\0b", "\ud800", "1", 0, 1, 1.0, 1.5, -1, -0.0, 1e308, 2**63 - 1, 2**63, 10**400)
) | st.sampled_from((True, float("inf"), float("nan"), [], {}, "2026-03-01T13:00:00+01:00", "2026-03-01T13:00:00"))
reports = st.dictionaries(st.sampled_from((*FIELDS, "unknown")), odd, max_size=4).map(lambda changes: REPORT | changes)
envelopes = st.dictionaries(st.sampled_from((*ENVELOPE, "causationid", "data", "unknown")), odd, max_size=2)


def outcome(reader: Any, record: bytes) -> object:
    """Return what is read, with the data as plain values, or that it is refused, and why."""
    try:
        envelope = reader(record)
    except InvalidEvent as error:
        return str(error)
    return envelope._replace(data={name: getattr(envelope.data, name) for name in FIELDS})


@given(reports, envelopes)
@example(REPORT, {})
@example(REPORT, {"causationid": ID})
def test_both_ways_of_reading_say_the_same(report: dict[str, Any], changes: dict[str, Any]) -> None:
    record = json.dumps({**ENVELOPE, "data": report, **changes}).encode()
    assert outcome(read, record) == outcome(decode, record)


@given(st.binary(max_size=200))
def test_what_is_no_report_is_refused_in_the_same_words(record: bytes) -> None:
    assert outcome(read, record) == outcome(decode, record)


def test_a_usual_report_goes_the_short_way() -> None:
    assert isinstance(read(json.dumps({**ENVELOPE, "data": REPORT}).encode()).data, Report)

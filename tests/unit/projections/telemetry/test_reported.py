"""Reports are read in a way of their own, and mean the same as what `events.codec` reads."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from events.codec import decode_all
from events.errors import InvalidEvent
from events.telemetry import Report, TelemetryReported
from projections.telemetry.reported import read_all
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


def outcome(reader: Any, *records: bytes) -> object:
    """Return what is read, with the data as plain values; None when something is refused."""
    try:
        envelopes = reader(records)
    except InvalidEvent:
        return None
    return [envelope._replace(data={name: getattr(envelope.data, name) for name in FIELDS}) for envelope in envelopes]


def line(report: dict[str, Any], changes: dict[str, Any] | None = None) -> bytes:
    return json.dumps({**ENVELOPE, "data": report, **(changes or {})}).encode()


@given(reports, envelopes)
@example(REPORT, {})
@example(REPORT, {"causationid": ID})
def test_both_ways_of_reading_say_the_same(report: dict[str, Any], changes: dict[str, Any]) -> None:
    odd_one = line(report, changes)
    assert outcome(read_all, odd_one) == outcome(decode_all, odd_one)
    several = line(REPORT), odd_one, line(REPORT)
    assert outcome(read_all, *several) == outcome(decode_all, *several)


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from((b"", b"\n", line(REPORT), line(REPORT) + b"\n" + line(REPORT))), max_size=4)
)
def test_what_is_no_line_is_refused_as_by_the_codec(records: list[bytes]) -> None:
    assert outcome(read_all, *records) == outcome(decode_all, *records)


def test_usual_reports_go_the_short_way() -> None:
    assert [type(envelope.data) for envelope in read_all([line(REPORT), line(REPORT)])] == [Report, Report]

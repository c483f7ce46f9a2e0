"""What is on the log can be read, what cannot be read is a dead letter with a reason, and there is nothing between."""

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from events import codec, upcasters
from events.envelope import REGISTRY, Envelope, Event, derive, derived_id
from events.errors import InvalidEvent
from events.videos import VideoArchived, VideoEdited, VideoUploaded
from infra.reference.schemas import EXAMPLES, ROOT
from tests.support.strategies import envelopes

ID = "0190a000-0000-7000-8000-000000000001"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ARCHIVED: Envelope[Event] = Envelope(ID, "/kinolog/admin", "v1", NOON, VideoArchived(video_id="v1"), ID)


def document(**changes: object) -> bytes:
    """A valid record with some members replaced, or left out where the change is `...`."""
    members = json.loads(codec.encode(ARCHIVED)) | changes
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


@given(envelopes())
def test_what_is_written_is_what_is_read(envelope: Envelope[Event]) -> None:
    record = codec.encode(envelope)
    assert b"\n" not in record
    assert codec.decode(record) == envelope
    assert codec.encode(codec.decode(record)) == record


def id_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all ids in a JSON document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(inner, str) and isinstance(key, str) and (key.endswith("_id") or key == "pool"):
            yield (*path, key)
        yield from id_paths(inner, (*path, key))


@given(envelopes())
def test_no_id_is_written_that_is_longer_than_one_that_is_read(envelope: Envelope[Event]) -> None:
    """Wherever in the event it is: also within a spec or a result."""
    written = json.loads(codec.encode(envelope))
    for path in id_paths(written["data"]):
        changed = deepcopy(written)
        inner = changed["data"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "x" * (codec.ID_MAX + 1)
        try:
            event = type(envelope.data).model_validate(changed["data"])
        except ValidationError:
            continue  # its type does not take any text
        with pytest.raises(InvalidEvent, match=f"{path[-1]} has more than"):
            codec.encode(envelope._replace(data=event))
        with pytest.raises(InvalidEvent):
            codec.decode(json.dumps(changed).encode())


@given(st.lists(envelopes(), max_size=12))
def test_many_are_read_as_one_by_one(written: list[Envelope[Event]]) -> None:
    records = [codec.encode(envelope) for envelope in written]
    assert codec.decode_all(records) == written == [codec.decode(record) for record in records]


@given(st.lists(envelopes(), max_size=5), st.integers(0, 5), st.data())
def test_among_many_none_is_read_that_alone_is_refused(written: list[Envelope[Event]], index: int, data: st.DataObject) -> None:
    """Also what only together with its neighbours is JSON."""
    records = [codec.encode(envelope) for envelope in written]
    whole = document()
    refused = (
        whole[:40],
        whole[40:],
        b"%b,%b" % (whole, whole),
        b"",
        b"\xff",
        document(id="x"),
        document(id=ID.upper()),
        document(id=f"{ID},{ID}"),
        document(causationid="x"),
        document(type="x"),
        document(data={}),
    )
    records[index:index] = data.draw(st.lists(st.sampled_from(refused), min_size=1, max_size=3))
    with pytest.raises(InvalidEvent):
        codec.decode_all(records)


def test_many_with_an_old_one_among_them(versions: tuple[str, str]) -> None:
    records = [codec.encode(ARCHIVED), document(type=versions[0], data={"video_id": "v1", "seconds": 1.5})]
    assert codec.decode_all(records) == [codec.decode(record) for record in records]


def test_a_record_is_a_cloud_event() -> None:
    assert json.loads(codec.encode(ARCHIVED)) == {
        "specversion": "1.0",
        "id": ID,
        "source": "/kinolog/admin",
        "type": "kinolog.video.archived.v1",
        "subject": "v1",
        "time": "2026-01-01T12:00:00Z",
        "correlationid": ID,
        "data": {"video_id": "v1"},
    }


def test_fields_of_newer_writers_are_ignored() -> None:
    assert codec.decode(document(data={"video_id": "v1", "colour": "blue"}, newextension="x")) == ARCHIVED


def test_any_zone_is_read_as_utc() -> None:
    assert codec.decode(document(time="2026-01-01T14:30:00+02:30")).time == NOON


@given(st.binary(max_size=400))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b'"text"')
@example(b"\xff\xfe")
@example(b'{"type":"\\ud800"}')
@example(b"[" * 100_000)
@example(b'{"a":' * 5_000 + b"1" + b"}" * 5_000)
def test_garbage_is_an_invalid_event(record: bytes) -> None:
    with pytest.raises(InvalidEvent):
        codec.decode(record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(sorted(REGISTRY)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("specversion", "id", "source", "type", "subject", "time", "correlationid", "causationid", "data")


@given(envelopes(), st.dictionaries(st.sampled_from(MEMBERS), JSON | st.just(...), min_size=1, max_size=3))
def test_a_damaged_envelope_is_read_or_an_invalid_event(envelope: Envelope[Event], damage: dict[str, Any]) -> None:
    members = json.loads(codec.encode(envelope)) | damage
    _read_or_refused({name: value for name, value in members.items() if value is not ...})


@given(envelopes(), st.data())
def test_damaged_data_is_read_or_an_invalid_event(envelope: Envelope[Event], data: st.DataObject) -> None:
    members = json.loads(codec.encode(envelope))
    value = members["data"]
    for _ in range(data.draw(st.integers(0, 4))):
        inner = [child for child in (value.values() if isinstance(value, dict) else value) if child and _nests(child)]
        if inner:
            value = data.draw(st.sampled_from(inner))
    if isinstance(value, dict) and value:
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    elif isinstance(value, list):
        value.append(data.draw(JSON))
    _read_or_refused(members)


def _nests(value: object) -> bool:
    return isinstance(value, dict | list)


def _read_or_refused(members: dict[str, Any]) -> None:
    """Either decode raises InvalidEvent, or what it read is fit to be written and used as a cause."""
    try:
        envelope = codec.decode(json.dumps(members).encode())
    except InvalidEvent as error:
        assert 0 < len(str(error)) <= 600
        return
    assert codec.decode(codec.encode(envelope)) == envelope
    derived_id(envelope.id, 0)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"not json", "not JSON"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (document(id=...), "missing required field `id`"),
        (document(id=7), "Expected `str`, got `int` - at `$.id`"),
        (document(id="v1"), "id is not a UUID"),
        (document(id=[ID]), "Expected `str`, got `array` - at `$.id`"),
        (document(causationid={}), "at `$.causationid`"),
        (document(causationid="v1"), "causationid is not a UUID"),
        (document(subject=""), "Expected `str` of length >= 1 - at `$.subject`"),
        (document(subject=None), "at `$.subject`"),
        (document(source=...), "missing required field `source`"),
        (document(correlationid=1), "at `$.correlationid`"),
        (document(specversion="0.3"), "specversion"),
        (document(time=...), "missing required field `time`"),
        (document(time=1767268800), "not an envelope"),
        (document(time="noon"), "not an envelope"),
        (document(time="2026-01-01T12:00:00"), "timezone component - at `$.time`"),
        (document(time="0001-01-01T00:00:00+14:00"), "not an envelope"),
        (document(type="kinolog.video.exploded.v1"), "unknown type 'kinolog.video.exploded.v1'"),
        (document(type=["kinolog.video.archived.v1"]), "not an envelope"),
        (document(data=...), "missing required field `data`"),
        (document(data=[]), "data of kinolog.video.archived.v1"),
        (document(data={}), "video_id: Field required"),
        (document(data={"video_id": "a\0b"}), "NUL"),
        (document(subject="a\\\0b"), "NUL"),
    ],
)
def test_the_reason_says_what_is_wrong(record: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        codec.decode(record)
    assert reason in str(caught.value)


def test_a_backslash_before_u0000_is_no_nul() -> None:
    envelope = ARCHIVED._replace(data=VideoArchived(video_id="C:\\u0000"))
    assert codec.decode(codec.encode(envelope)) == envelope


@pytest.mark.parametrize(
    "envelope",
    [
        ARCHIVED._replace(id="v1"),
        ARCHIVED._replace(subject=""),
        ARCHIVED._replace(causationid="x"),
        ARCHIVED._replace(time=NOON.replace(tzinfo=None)),
        ARCHIVED._replace(subject="half \ud83d"),
        ARCHIVED._replace(data=VideoArchived(video_id="half \ud83d")),
        ARCHIVED._replace(data=VideoEdited(video_id="v1", title="a\0b")),
    ],
)
def test_what_could_not_be_read_is_not_written(envelope: Envelope[Event]) -> None:
    with pytest.raises(InvalidEvent):
        codec.encode(envelope)


def test_a_derived_event_has_the_same_id_at_every_retry() -> None:
    later = NOON + timedelta(seconds=1)
    first, again, second = (
        derive(ARCHIVED, index, data=VideoArchived(video_id="v1"), subject="v1", source="/kinolog/planning", time=later)
        for index in (0, 0, 1)
    )
    assert first == again != second
    assert (first.causationid, first.correlationid) == (ARCHIVED.id, ARCHIVED.correlationid)


def test_a_declared_type_is_never_declared_again() -> None:
    with pytest.raises(TypeError, match="declared twice"):
        type("VideoUploadedAgain", (Event,), {}, type=VideoUploaded.TYPE)


@pytest.fixture
def versions() -> Iterator[tuple[str, str]]:
    """A made-up event whose version 1 had seconds and whose version 2 has milliseconds."""
    old, new = "kinolog.test.measured.v1", "kinolog.test.measured.v2"

    class Measured(Event, type=new):
        video_id: str
        duration_ms: int

    @upcasters.upcasts(old, to=new)
    def to_milliseconds(data: upcasters.Data) -> upcasters.Data:
        return {"video_id": data["video_id"], "duration_ms": round(data["seconds"] * 1000)}

    yield old, new
    del REGISTRY[new], upcasters.UPCASTERS[old]


def test_an_old_event_is_read_as_todays(versions: tuple[str, str]) -> None:
    old, new = versions
    envelope = codec.decode(document(type=old, data={"video_id": "v1", "seconds": 1.5}))
    assert new == envelope.data.TYPE
    assert envelope.data.model_dump() == {"video_id": "v1", "duration_ms": 1500}
    assert orjson.loads(codec.encode(envelope))["type"] == new


@given(data=JSON)
def test_an_upcaster_meets_garbage_and_it_is_an_invalid_event(data: object) -> None:
    """Upcasters see data before validation; here one that trusts it."""
    old, new = "kinolog.test.trusting.v1", VideoArchived.TYPE
    upcasters.UPCASTERS[old] = (new, lambda data: {"video_id": data["parts"][0] / data["divisor"]})
    try:
        with pytest.raises(InvalidEvent):
            codec.decode(document(type=old, data=TypeAdapter(Any).dump_python(data, mode="json")))
    finally:
        del upcasters.UPCASTERS[old]


def test_a_step_is_registered_once(versions: tuple[str, str]) -> None:
    with pytest.raises(TypeError, match="has an upcaster already"):
        upcasters.upcasts(versions[0], to="kinolog.test.measured.v3")(dict)


@pytest.mark.parametrize("zone", [timezone.utc, timezone(timedelta(hours=5, minutes=45))])  # noqa: UP017
def test_microseconds_survive(zone: timezone) -> None:
    envelope = ARCHIVED._replace(time=datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=zone))
    assert codec.decode(codec.encode(envelope)).time == envelope.time


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_that_nobody_can_keep_is_an_invalid_event(number: int) -> None:
    path = next((ROOT / EXAMPLES / VideoUploaded.TYPE).glob("*.json"))
    members = json.loads(path.read_text())
    members["data"]["size_bytes"] = number
    with pytest.raises(InvalidEvent, match="size_bytes"):
        codec.decode(json.dumps(members).encode())

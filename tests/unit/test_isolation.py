"""What one subject derives is its own affair: the others of a batch derive what they would alone."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events.codec import encode
from events.envelope import Envelope, Event, Recorded, derive
from events.jobs import JobCompleted, JobSubmitted
from events.kinds import AnalyseResult
from events.media import AudioTrack, Failure
from events.topics import JOBS, VIDEOS
from events.videos import VideoArchived, VideoFailed, VideoPublished, VideoRestored, VideoUploaded
from infra.runtime.clock import new_id
from processors.agents.process import SLICE_BYTES, SLICE_EVENTS, Process, Step, slices, step
from processors.planning import process as planning
from processors.planning.plan import PlanSettings
from producers.appender import EVENT_BYTES_MAX
from projections.folding.fold import Key, Projection, Table, table_row
from tests.unit.test_planning import PROBE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Nature = Literal["sound", "raises in evolve", "raises in react", "too large", "unwritable", "cannot even fail"]
NATURES: tuple[Nature, ...] = ("sound", "raises in evolve", "raises in react", "too large", "unwritable", "cannot even fail")
HUGE = "x" * EVENT_BYTES_MAX


def id_of(number: int) -> str:
    """Return the id of a subject."""
    return f"01890000-0000-7000-8000-{number:012d}"


@table_row
class Row:
    """Counts events; remembers that it failed."""

    video_id: str
    count: int = 0
    failed: bool = False


def of_natures(natures: list[Nature]) -> Process[Row]:
    """Return a process in which each subject behaves by its nature."""

    def nature(recorded: Recorded[Event]) -> Nature:
        return natures[int(recorded.envelope.subject[-12:])]

    def evolve(row: Row | None, recorded: Recorded[Event]) -> Row | None:
        if nature(recorded) == "raises in evolve":
            raise KeyError("a bug")
        row = row or Row(recorded.envelope.subject)
        return replace(row, count=row.count + 1)

    def react(row: Row | None, recorded: Recorded[Event]) -> Step[Row]:
        assert row is not None
        told, rungs = row.video_id, ("720p",)
        match nature(recorded):
            case "raises in react" | "cannot even fail":
                raise RecursionError("another bug")
            case "too large":
                rungs = (HUGE,)
            case "unwritable":
                told = "\ud800"
            case "sound" | "raises in evolve":
                pass
        events = [VideoPublished(video_id=told, duration_ms=1, rungs=rungs), VideoRestored(video_id=row.video_id)]
        return row, [answer(recorded, index, event) for index, event in enumerate(events)]

    def fail(key: Key, row: Row | None, recorded: Recorded[Event], failure: Failure) -> Step[Row]:
        if nature(recorded) == "cannot even fail":
            raise ValueError("a third one")
        event = VideoFailed(video_id=str(key[0]), failure=failure)
        return replace(row or Row(str(key[0])), failed=True), [answer(recorded, 0, event)]

    table = Table("rows", Row, ("video_id",), lambda recorded: ((recorded.envelope.subject,),), evolve)
    return Process(Projection("test", (VIDEOS,), (table,), ""), react, fail)


def answer(recorded: Recorded[Event], index: int, event: Event) -> Envelope[Event]:
    """Return an event that follows from another."""
    return derive(recorded.envelope, index, data=event, subject=recorded.envelope.subject, source="test", time=NOW)


def recorded(event: Event, subject: str, offset: int, topic: str = VIDEOS.name) -> Recorded[Event]:
    """Return an event at its place on the log."""
    return Recorded(topic, 0, offset, Envelope(new_id(), "test", subject, NOW, event, subject))


@given(st.lists(st.sampled_from(NATURES), min_size=1, max_size=6), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_whatever_a_subject_derives_the_others_derive_what_they_would_alone(natures: list[Nature], order: list[int]) -> None:
    subjects = [number % len(natures) for number in order]
    records = [recorded(VideoArchived(video_id=id_of(n)), id_of(n), offset) for offset, n in enumerate(subjects)]
    process = of_natures(natures)
    rows: dict[Key, Any] = {}

    with capture_logs():
        together = step(process, rows, records)

    for number in set(subjects):
        mine = [record for record in records if record.envelope.subject == id_of(number)]
        alone: dict[Key, Any] = {}
        with capture_logs():
            derived = step(process, alone, mine)
        assert derived == [envelope for envelope in together if envelope.subject == id_of(number)]
        assert alone[id_of(number),] == rows[id_of(number),]
        assert natures[number] in ("sound", "cannot even fail") or rows[id_of(number),].failed
    assert all(len(encode(envelope)) <= EVENT_BYTES_MAX for envelope in together)


@pytest.mark.parametrize("nature", NATURES[1:])
def test_a_subject_that_fails_is_named_with_its_place_on_the_log(nature: Nature) -> None:
    with capture_logs() as lines:
        derived = step(of_natures([nature]), {}, [recorded(VideoArchived(video_id=id_of(0)), id_of(0), 4711)])

    line = lines[0]
    assert (line["event"], line["subject"], line["topic"], line["offset"]) == ("subject_failed", id_of(0), "videos", 4711)
    if nature != "cannot even fail":
        (failed,) = [envelope.data for envelope in derived]
        assert isinstance(failed, VideoFailed) and not failed.failure.retryable
        assert failed.failure.code == ("PLAN_TOO_LARGE" if nature == "too large" else "PLANNING_ERROR")
        assert failed.failure.message.endswith(".")


def uploaded(video_id: str) -> VideoUploaded:
    """Return the upload of a video."""
    return VideoUploaded(video_id=video_id, title="t", filename="f.mkv", object_key=f"sources/{video_id}", size_bytes=1000)


def analysed(video_id: str, **changes: Any) -> JobCompleted:
    """Return the end of its analysis."""
    result = AnalyseResult(probe=PROBE.model_copy(update=changes))
    job = planning.job_id(video_id, 0, "analyse")
    return JobCompleted(job_id=job, video_id=video_id, pool="default", worker_id="w", epoch=1, attempt=1, result=result)


def test_a_video_that_cannot_be_planned_stops_no_other() -> None:
    """948 sound tracks with long titles, as an older worker reports them: that one fails, its neighbour is planned."""
    track = AudioTrack(index=1, codec="aac", channels=2, sample_rate_hz=48_000, duration_ms=1000, title="t" * 2000)
    tracks = tuple(track.model_copy(update={"index": index}) for index in range(1, 949))
    process = planning.process(planning.Policy(PlanSettings(), "default"), lambda: NOW)
    first, second = id_of(1), id_of(2)
    facts = [uploaded(first), uploaded(second), analysed(first, audio=tracks), analysed(second)]
    rows: dict[Key, Any] = {}

    derived = step(process, rows, [recorded(fact, "s", at, JOBS.name) for at, fact in enumerate(facts)])

    of_second = [e.data for e in derived if getattr(e.data, "video_id", "") == second and isinstance(e.data, JobSubmitted)]
    assert len(of_second) > 3
    assert rows[second,].state == "working"
    assert all(len(encode(envelope)) <= EVENT_BYTES_MAX for envelope in derived)


def test_what_a_batch_derives_is_appended_in_slices() -> None:
    """However many videos are planned in one batch: the events of a thousand do not make one group."""
    process = planning.process(planning.Policy(PlanSettings(chunk_s=6), "default"), lambda: NOW)
    ids = [id_of(number) for number in range(300)]
    facts = [fact for id_ in ids for fact in (uploaded(id_), analysed(id_))]
    records = [recorded(fact, "s", at, JOBS.name) for at, fact in enumerate(facts)]

    sizes = [(len(part), sum(len(encode(envelope)) for envelope in part)) for part in slices(process, {}, records)]

    assert len(sizes) > 3
    assert all(count <= SLICE_EVENTS and size <= SLICE_BYTES + EVENT_BYTES_MAX for count, size in sizes)

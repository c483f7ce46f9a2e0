"""What one subject derives is its own affair: the others of a batch derive what they would alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events.codec import encode
from events.envelope import Envelope, Event, Recorded
from events.jobs import JobCompleted, JobSubmitted
from events.kinds import AnalyseResult
from events.media import AudioTrack, Failure, PlanSettings
from events.topics import TOPIC_OF, VIDEOS
from events.videos import VideoArchived, VideoFailed, VideoPublished, VideoRestored, VideoUploaded
from infra.runtime.clock import new_id
from processors.agents.process import SLICE_BYTES, SLICE_EVENTS, Decision, Process, Rule, isolated
from processors.planning import process as planning
from producers.appender import EVENT_BYTES_MAX
from projections.folding.fold import Key, Projection, Table, table_row
from tests.support.deciding import Live
from tests.support.footage import PROBE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Nature = Literal["sound", "raises in evolve", "raises in decide", "too large", "unwritable", "cannot even fail"]
NATURES: tuple[Nature, ...] = ("sound", "raises in evolve", "raises in decide", "too large", "unwritable", "cannot even fail")
HUGE = "x" * EVENT_BYTES_MAX


def id_of(number: int) -> str:
    """Return the id of a subject."""
    return f"01890000-0000-7000-8000-{number:012d}"


@table_row
class Row:
    """Counts events."""

    video_id: str
    count: int = 0
    fault: Failure | None = None


def of_natures(natures: list[Nature]) -> Process:
    """Return a process in which each subject behaves by its nature."""

    def nature(video_id: str) -> Nature:
        return natures[int(video_id[-12:])]

    def keys_of(recorded: Recorded[Event]) -> Sequence[Key]:
        return ((recorded.envelope.subject,),)

    def evolve(row: Row | None, recorded: Recorded[Event]) -> Row | None:
        if nature(recorded.envelope.subject) == "raises in evolve":
            raise KeyError("a bug")
        row = row or Row(recorded.envelope.subject)
        return replace(row, count=row.count + 1)

    def noted(key: Key, row: Row | None, failure: Failure) -> Row:
        return replace(row or Row(str(key[0])), fault=failure)

    def decide(row: Row, now: datetime) -> Decision | None:
        if row.fault is not None:
            return fail(row, row.fault)
        video_id, rungs = row.video_id, ("720p",)
        match nature(row.video_id):
            case "raises in decide" | "cannot even fail":
                raise RecursionError("another bug")
            case "too large":
                rungs = (HUGE,)
            case "unwritable":
                video_id = "\ud800"
            case "sound" | "raises in evolve":
                pass
        published = VideoPublished(video_id=video_id, duration_ms=1, rungs=rungs)
        restored = VideoRestored(video_id=row.video_id)
        return Decision(str(row.count), ((restored, row.video_id),), ((published, row.video_id),))

    def fail(row: Row, failure: Failure) -> Decision:
        if nature(row.video_id) == "cannot even fail":
            raise ValueError("a third one")
        return Decision("fail", facts=((VideoFailed(video_id=row.video_id, failure=failure), row.video_id),))

    table = Table("rows", Row, ("video_id",), keys_of, isolated("test", keys_of, evolve, noted))
    return Process(Projection("test", (VIDEOS,), (table,), ""), "test", (Rule(table, decide, fail),))


def recorded(event: Event, subject: str, offset: int) -> Recorded[Event]:
    """Return an event at its position on the log."""
    return Recorded(TOPIC_OF[event.TYPE].name, 0, offset, Envelope(new_id(), "test", subject, NOW, event, subject))


@given(st.lists(st.sampled_from(NATURES), min_size=1, max_size=6), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_whatever_a_subject_derives_the_others_derive_what_they_would_alone(natures: list[Nature], order: list[int]) -> None:
    subjects = [number % len(natures) for number in order]
    records = [recorded(VideoArchived(video_id=id_of(n)), id_of(n), offset) for offset, n in enumerate(subjects)]
    process = of_natures(natures)
    live = Live(process)

    with capture_logs():
        together = live.handle(records, NOW)

    for number in set(subjects):
        mine = [record for record in records if record.envelope.subject == id_of(number)]
        alone = Live(process)
        with capture_logs():
            derived = alone.handle(mine, NOW)
        assert derived == [envelope for envelope in together if envelope.subject == id_of(number)]
        assert alone.rows["rows"][id_of(number),] == live.rows["rows"][id_of(number),]
        failed = [envelope for envelope in derived if isinstance(envelope.data, VideoFailed)]
        assert len(failed) == (natures[number] not in ("sound", "cannot even fail"))
    assert all(len(encode(envelope)) <= EVENT_BYTES_MAX for envelope in together)


@pytest.mark.parametrize("nature", NATURES[1:])
def test_a_subject_that_fails_is_named_with_its_place_on_the_log(nature: Nature) -> None:
    with capture_logs() as lines:
        derived = Live(of_natures([nature])).handle([recorded(VideoArchived(video_id=id_of(0)), id_of(0), 4711)], NOW)

    line = lines[0]
    assert (line["event"], line["process"], line["subject"]) == ("subject_failed", "test", id_of(0))
    assert line.get("offset") == 4711 or line["cause"]
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
    live = Live(planning.process(planning.Policy(PlanSettings(), "default")))
    first, second = id_of(1), id_of(2)
    facts = [uploaded(first), uploaded(second), analysed(first, audio=tracks), analysed(second)]

    derived = live.handle([recorded(fact, "s", at) for at, fact in enumerate(facts)], NOW)

    of_second = [e.data for e in derived if getattr(e.data, "video_id", "") == second and isinstance(e.data, JobSubmitted)]
    assert len(of_second) > 3
    assert live.rows["videos"][second,].state == "working"
    assert all(len(encode(envelope)) <= EVENT_BYTES_MAX for envelope in derived)


def test_what_a_batch_derives_is_appended_in_slices() -> None:
    """However many videos are planned in one batch: the events of a thousand do not make one group."""
    live = Live(planning.process(planning.Policy(PlanSettings(chunk_s=6), "default")))
    ids = [id_of(number) for number in range(300)]
    facts = [fact for id_ in ids for fact in (uploaded(id_), analysed(id_))]
    records = [recorded(fact, "s", at) for at, fact in enumerate(facts)]

    sizes = [(len(part), sum(len(encode(envelope)) for envelope in part)) for part in live.slices(records, NOW)]

    assert len(sizes) > 3
    assert all(count <= SLICE_EVENTS and size <= SLICE_BYTES + EVENT_BYTES_MAX for count, size in sizes)

"""What enters the log when people and programs ask for something: request and context in, envelopes out."""

import random
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.clock import Context
from events.codec import decode, encode
from events.envelope import Envelope, Event
from events.errors import InvalidEvent
from events.jobs import CancelRequested, RetryRequested
from events.objects import source_key
from events.topics import TOPIC_OF
from events.videos import UploadAbandoned, UploadStarted, VideoEdited, VideoUploaded
from producers import catalog, jobs, uploads

VIDEO = "01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"
UPLOADED = VideoUploaded(video_id=VIDEO, title="t", filename="f", object_key=source_key(VIDEO), size_bytes=1, etag="e")


def context() -> Context:
    """A moment with ids of its own: 1, 2, 3 …"""
    numbers = count(1)
    return Context(
        datetime(2026, 3, 1, tzinfo=UTC), lambda: f"00000000-0000-7000-8000-{next(numbers):012d}", "test", rng=random.Random(1)
    )


def upload_events(priority: str = "normal", **change: object) -> list[Envelope[Event]]:
    started = uploads.started(context(), video_id=VIDEO, filename="../a b.mp4", size_bytes=9, multipart_id="m", part_bytes=5)
    uploaded = uploads.uploaded(context(), UPLOADED.model_copy(update={"priority": priority, **change}))
    return [started, uploaded, uploads.abandoned(context(), video_id=VIDEO, reason="cancelled")]


def test_an_upload_is_published_on_the_topic_videos_under_its_own_key() -> None:
    for envelope in upload_events():
        assert TOPIC_OF[envelope.data.TYPE].name == "videos"
        assert envelope.subject == envelope.correlationid == VIDEO
        assert envelope.source == "test"
        assert decode(encode(envelope)) == envelope


def test_no_name_of_a_file_is_part_of_a_key() -> None:
    started, uploaded, _ = upload_events(filename="../../etc/passwd")
    assert isinstance(started.data, UploadStarted) and isinstance(uploaded.data, VideoUploaded)
    assert started.data.object_key == uploaded.data.object_key == f"sources/{VIDEO}/original"
    assert started.data.filename == "../a b.mp4"


def test_an_upload_ends_once_whoever_says_it_how_often() -> None:
    """Ids follow from the video's: folds drop what was said before, whichever process said it."""
    first, second = upload_events(), upload_events(title="another")
    assert [envelope.id for envelope in first] == [envelope.id for envelope in second]
    assert len({envelope.id for envelope in first}) == 3
    assert first[1].causationid == VIDEO


def test_swept_and_cancelled_are_the_same_end() -> None:
    cancelled = uploads.abandoned(context(), video_id=VIDEO, reason="cancelled")
    expired = uploads.abandoned(context(), video_id=VIDEO, reason="expired")
    assert cancelled.id == expired.id
    assert isinstance(expired.data, UploadAbandoned) and expired.data.reason == "expired"


@pytest.mark.parametrize(
    ("filename", "title"),
    [
        ("holiday.mp4", "holiday.mp4"),
        ("  a\tb\r\nc .mkv ", "a b c .mkv"),
        ("evil\u202e4pm.exe", "evil 4pm.exe"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("\u0000\u0007", "untitled"),
        ("", "untitled"),
        ("👩\u200d👧 family.mov", "👩\u200d👧 family.mov"),
        ("x" * 1000, "x" * 255),
    ],
)
def test_a_title_is_what_can_be_seen_of_a_name(filename: str, title: str) -> None:
    assert uploads.title_of(filename) == title


@given(st.text(max_size=1024))
def test_any_name_gives_a_title_that_the_log_takes(filename: str) -> None:
    title = uploads.title_of(filename)
    assert 1 <= len(title) <= uploads.TITLE_MAX
    assert uploads.title_of(title) == title
    envelope = upload_events(title=title)[1]
    assert decode(encode(envelope)) == envelope


def test_a_name_with_a_nul_is_refused_before_it_is_on_the_log() -> None:
    with pytest.raises(InvalidEvent):
        encode(upload_events(filename="a\x00b")[1])


def test_each_wish_about_a_video_is_a_fact_of_its_own() -> None:
    moment = context()
    events = [
        catalog.edited(moment, VIDEO, title="New", description=None),
        catalog.archived(moment, VIDEO),
        catalog.restored(moment, VIDEO),
        catalog.purged(moment, VIDEO),
        catalog.retry_requested(moment, VIDEO, "the disk was full"),
    ]
    assert {envelope.subject for envelope in events} == {VIDEO}
    assert len({envelope.id for envelope in events}) == len({envelope.data.TYPE for envelope in events}) == 5
    assert events[0].data == VideoEdited(video_id=VIDEO, title="New", description=None)
    assert all(decode(encode(envelope)) == envelope for envelope in events)


def test_wishes_about_jobs_go_to_the_owner_of_the_pool() -> None:
    about = {"job_id": "j", "video_id": VIDEO, "pool": "gpu", "reason": "why"}
    cancel = jobs.cancel_requested(context(), **about)
    retry = jobs.retry_requested(context(), **about)
    assert cancel.data == CancelRequested(job_id="j", pool="gpu", reason="why")
    assert retry.data == RetryRequested(job_id="j", pool="gpu", reason="why")
    for envelope in (cancel, retry):
        assert (envelope.subject, envelope.correlationid) == ("gpu", VIDEO)
        assert TOPIC_OF[envelope.data.TYPE].name == "job-requests"

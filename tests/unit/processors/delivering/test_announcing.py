"""Announcing: given events of videos and workers, then these notices; whatever the order of topics, crashes and rebuilds."""

import copy
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Event, Recorded
from events.kinds import Capabilities
from events.media import Failure, Plan
from events.notices import NoticePublished, VideoNotice, WorkerNotice
from events.topics import NOTICES, VIDEOS, WORKERS
from events.videos import (
    VideoArchived,
    VideoEdited,
    VideoFailed,
    VideoPlanned,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
)
from events.workers import WorkerDrained, WorkerOffline, WorkerRegistered
from processors.delivering import announcing
from tests.support.deciding import Live
from tests.support.folding import folded

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
VIDEO, WORKER = "01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002"
UPLOADED = VideoUploaded(video_id=VIDEO, title="Holiday", filename="h.mp4", object_key="sources/x", size_bytes=1)
PLANNED = VideoPlanned(video_id=VIDEO, plan=Plan(format="cmaf", duration_ms=1000, segment_ms=6000), job_ids=())
PUBLISHED = VideoPublished(video_id=VIDEO, duration_ms=1000, rungs=("720p", "480p"))
FAILED = VideoFailed(
    video_id=VIDEO, failure=Failure(stage="encoding", category="process_failure", code="X", message="ffmpeg ended with 1")
)
RETRIED = VideoRetryRequested(video_id=VIDEO)
REGISTERED = WorkerRegistered(
    worker_id=WORKER,
    name="gpu-1",
    pool="default",
    version="1",
    capabilities=Capabilities(kinds=(), encoders=("h264_nvenc",), gpu=True),
    cpu_count=1,
    memory_bytes=1,
)


class World:
    """The log of both topics and of notices, and the process that reads it."""

    def __init__(self) -> None:
        self.log: dict[str, list[Recorded[Event]]] = {VIDEOS.name: [], WORKERS.name: [], NOTICES.name: []}
        self.positions = dict.fromkeys(self.log, 0)
        self.live = Live(announcing.PROCESS)
        self._number = 0

    def write(self, *events: Event) -> None:
        """Put events on the log."""
        for event in events:
            self._number += 1
            topic = WORKERS.name if event.TYPE.startswith("kinolog.worker") else VIDEOS.name
            id_ = f"00000000-0000-7000-8000-{self._number:012x}"
            subject = WORKER if topic == WORKERS.name else VIDEO
            envelope = Envelope(id_, "test", subject, NOW + timedelta(seconds=self._number), event, id_)
            self.log[topic].append(Recorded(topic, 0, len(self.log[topic]), envelope))

    def read(self, topic: str, count: int, *, crash: bool = False) -> None:
        """Handle a batch; in a crash its notices were appended, and nothing was committed."""
        before = copy.deepcopy((self.live.rows, self.live._decided))
        start = self.positions[topic]
        records = self.log[topic][start : start + count]
        for envelope in self.live.handle(records, NOW):
            self.log[NOTICES.name].append(Recorded(NOTICES.name, 0, len(self.log[NOTICES.name]), envelope))
        if crash:
            self.live.rows, self.live._decided = before
        else:
            self.positions[topic] = start + len(records)

    def finish(self) -> None:
        """Read everything."""
        while any(self.positions[topic] < len(records) for topic, records in self.log.items()):
            for topic in self.log:
                self.read(topic, 100)

    @property
    def notices(self) -> list[NoticePublished]:
        """Notices, each once."""
        events = [record.envelope.data for record in reversed(self.log[NOTICES.name])]
        found = {event.event_id: event for event in events if isinstance(event, NoticePublished)}
        return sorted(found.values(), key=lambda notice: (notice.subject_id, notice.number))


def told(*events: Event) -> list[NoticePublished]:
    """Return the notices of events."""
    world = World()
    world.write(*events)
    world.finish()
    return world.notices


def test_the_life_of_a_video() -> None:
    edited = VideoEdited(video_id=VIDEO, title="Sea")
    life = (
        UPLOADED,
        PLANNED,
        FAILED,
        RETRIED,
        PLANNED,
        edited,
        PUBLISHED,
        VideoArchived(video_id=VIDEO),
        VideoRestored(video_id=VIDEO),
    )
    notices = told(*life, VideoPurged(video_id=VIDEO))
    assert [notice.event_type for notice in notices] == [
        *("video.uploaded", "video.processing", "video.failed", "video.processing", "video.ready"),
        *("video.deleted", "video.restored", "video.purged"),
    ]
    abouts = [notice.about for notice in notices]
    assert all(isinstance(about, VideoNotice) and about.video_id == VIDEO for about in abouts)
    said = [about.model_dump(exclude_none=True, exclude={"video_id", "slug"}) for about in abouts]
    assert said[0] == {"title": "Holiday", "filename": "h.mp4"}
    assert said[2] == {"title": "Holiday", "error": "ffmpeg ended with 1", "attempt_number": 1, "max_attempts": 1}
    assert said[4] == {"title": "Sea", "qualities": ("720p", "480p"), "streaming_format": "cmaf"}
    assert (said[5]["permanent"], said[7]["permanent"]) == (False, True)


def test_repeated_plans_and_states_that_do_not_change_are_no_news() -> None:
    archived = VideoArchived(video_id=VIDEO)
    types = [notice.event_type for notice in told(UPLOADED, PLANNED, PLANNED, PUBLISHED, FAILED, archived, archived, PLANNED)]
    assert types[:4] == ["video.uploaded", "video.processing", "video.ready", "video.deleted"]


def test_a_video_that_was_never_uploaded_is_unknown_to_others() -> None:
    assert told(FAILED, VideoPurged(video_id=VIDEO)) == []


def test_the_life_of_a_worker() -> None:
    offline, drained = WorkerOffline(worker_id=WORKER), WorkerDrained(worker_id=WORKER, reason="SIGTERM")
    notices = told(offline, REGISTERED, offline, offline, REGISTERED, drained)
    assert [notice.event_type for notice in notices] == [
        *("worker.connected", "worker.disconnected", "worker.connected", "worker.disconnected"),
    ]
    first, last = notices[0].about, notices[-1].about
    assert isinstance(first, WorkerNotice)
    assert isinstance(last, WorkerNotice)
    assert (first.worker_name, first.worker_type, first.capabilities) == ("gpu-1", "gpu", ("h264_nvenc",))
    assert (last.reason, last.registered_at) == ("SIGTERM", NOW + timedelta(seconds=5))


@given(st.integers(0, 10**6))
def test_crashes_repetitions_and_rebuilds_announce_nothing_else(seed: int) -> None:
    rng = Random(seed)
    kinds = (PLANNED, PUBLISHED, FAILED, RETRIED, VideoArchived(video_id=VIDEO), VideoRestored(video_id=VIDEO))
    kinds += (REGISTERED, WorkerOffline(worker_id=WORKER))  # type: ignore[assignment]
    world, quiet = World(), World()
    for _ in range(rng.randint(1, 25)):
        event = rng.choice((UPLOADED, *kinds))
        world.write(event)
        quiet.write(event)
        if rng.random() < 0.6:
            world.read(rng.choice(list(world.log)), rng.randint(1, 4), crash=rng.random() < 0.3)
        if rng.random() < 0.2:
            records = [record for topic in rng.sample(list(world.log), 3) for record in world.log[topic][: world.positions[topic]]]
            assert folded(announcing.PROJECTION, records)["subjects"] == world.live.rows["subjects"]
    world.finish()
    quiet.finish()
    assert world.notices == quiet.notices
    rows = folded(announcing.PROJECTION, [record for topic in reversed(world.log) for record in world.log[topic]])["subjects"]
    assert all(row.pending == () for row in rows.values()), "a rebuild has nothing to announce"

"""Hypothesis strategies for whole logs: what videos, jobs and workers can go through, in the order in which it may happen.

logs()       records of all topics; per partition in order, topics interleaved at will
repeated()   the same log with every event standing there again, somewhere behind its first position
reordered()  the same log, partitions mixed in another way

What the events say comes from the stored examples, and a few words that differ; what varies is what happens when.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from hypothesis import strategies as st

from events.codec import decode
from events.contents import ContentClaimed
from events.envelope import Envelope, Event, Recorded
from events.failures import FailureRerun, FailureResolved, failure_id
from events.jobs import (
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobReleased,
    LeaseExpired,
    ResultRefused,
)
from events.progress import ProgressTicked
from events.streams import StreamEnded, StreamFailed, StreamServed, StreamStarted, StreamTicked
from events.topics import TOPIC_OF, partition_for
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
    VideoVisibilityChanged,
)
from events.workers import WorkerCleared, WorkerDrained, WorkerHeartbeat, WorkerOffline, WorkerQuarantined, WorkerRegistered
from infra.reference.schemas import ROOT, examples_of
from tests.support.folding import history
from tests.support.footage import START, id_of

VIDEOS = [id_of(f"video {n}") for n in range(2)]
JOBS = [id_of(f"job {n}") for n in range(2)]
WORKERS = [id_of(f"worker {n}") for n in range(2)]
VIEWERS = [id_of(f"viewer {n}") for n in range(2)]
_FIRST: tuple[type[Event], ...] = (UploadStarted, VideoUploaded)
_LATER = (
    *(VideoProbed, VideoPlanned, VideoPublished, VideoFailed, VideoRetryRequested, VideoEdited, VideoVisibilityChanged),
    *(VideoArchived, VideoRestored, VideoPurged, UploadAbandoned, VideoUploaded, UploadStarted),
)
_ENDS = (JobAttemptFailed, LeaseExpired, JobReleased, JobCompleted, JobFailed, JobCancelled)
_LIFE = (WorkerRegistered, WorkerDrained, WorkerOffline, WorkerQuarantined, WorkerCleared)


@dataclass
class _Making:
    """Draws events one after the other; each happens a little after the one before, by clocks that differ."""

    draw: st.DrawFn
    count: int = 0

    def event(self, kind: type[Event], **fields: object) -> Envelope[Event]:
        self.count += 1
        said = {"title": f"Title {self.count}"} if kind in (VideoUploaded, VideoEdited) else {}
        data = self.draw(st.sampled_from(examples(kind))).model_copy(update={**said, **fields})
        key = str(getattr(data, TOPIC_OF[kind.TYPE].key))
        time = START + timedelta(seconds=self.count * 2 + self.draw(st.integers(-3, 3)))
        return Envelope(id_of(f"event {self.count}"), "kinolog/test", key, time, data, id_of("correlation"))

    def some(self, kinds: Sequence[type[Event]], most: int = 8) -> list[type[Event]]:
        return self.draw(st.lists(st.sampled_from(kinds), max_size=most))


@cache
def examples(kind: type[Event]) -> tuple[Event, ...]:
    """Return the stored examples of an event."""
    return tuple(decode((ROOT / path).read_bytes()).data for path in examples_of(kind))


def _video(making: _Making, video_id: str) -> Iterator[Envelope[Event]]:
    yield making.event(making.draw(st.sampled_from(_FIRST)), video_id=video_id)
    for kind in making.some(_LATER):
        yield making.event(kind, video_id=video_id)


def _contents(making: _Making, sha256: str) -> Iterator[Envelope[Event]]:
    for _ in range(making.draw(st.integers(0, 4))):
        instead_of = making.draw(st.sampled_from((None, *VIDEOS)))
        yield making.event(ContentClaimed, sha256=sha256, video_id=making.draw(st.sampled_from(VIDEOS)), instead_of=instead_of)


def _job(making: _Making, job_id: str, video_id: str) -> Iterator[Envelope[Event]]:
    known = {"job_id": job_id, "video_id": video_id, "pool": "main"}
    yield making.event(JobQueued, reason="submitted", **known)
    for attempt, end in enumerate(making.some(_ENDS, 4), 1):
        claim = {**known, "epoch": attempt, "attempt": attempt}
        yield making.event(JobClaimed, worker_id=making.draw(st.sampled_from(WORKERS)), **claim)
        yield making.event(end, **{name: value for name, value in claim.items() if name in end.model_fields})
        if end is JobCompleted:
            yield making.event(ResultRefused, job_id=job_id, pool="main", epoch=attempt)
            return
        if end in (JobFailed, JobCancelled):
            if not making.draw(st.booleans()):
                return
            yield making.event(JobQueued, reason="retried", **known)


def _worker(making: _Making, worker_id: str) -> Iterator[Envelope[Event]]:
    for kind in making.some((*_LIFE, WorkerHeartbeat, WorkerHeartbeat)):
        yield making.event(kind, worker_id=worker_id)


def _ticks(making: _Making, job_id: str) -> Iterator[Envelope[Event]]:
    for _ in range(making.draw(st.integers(0, 4))):
        yield making.event(ProgressTicked, job_id=job_id, epoch=making.draw(st.integers(1, 3)))


def _failures(making: _Making, job_id: str) -> Iterator[Envelope[Event]]:
    for kind in making.some((FailureResolved, FailureRerun), 3):
        yield making.event(kind, failure_id=failure_id(job_id, making.draw(st.integers(1, 3))))


def _viewer(making: _Making, viewer_id: str) -> Iterator[Envelope[Event]]:
    """Sessions of a viewer. Each begins first: an app gives its name away once that is on the log. A server counts up."""
    served, begun = 0, set[str]()
    for kind in making.some((*[StreamTicked] * 4, StreamServed, StreamServed, StreamEnded, StreamFailed, StreamStarted), 12):
        session_id = f"{viewer_id} {making.draw(st.integers(0, 2))}"
        about: dict[str, object] = {"viewer_id": viewer_id, "session_id": session_id}
        if kind is StreamStarted or session_id not in begun:
            begun.add(session_id)
            video_id = VIDEOS[0] if session_id.endswith("0") else VIDEOS[1]
            yield making.event(
                StreamStarted, **about, video_id=video_id, media_ms=20_000, position_ms=making.draw(st.integers(0, 20_000))
            )
        elif kind is StreamServed:
            served += 1000
            yield making.event(kind, **about, bytes_served=served)
        else:
            yield making.event(kind, **about, position_ms=making.draw(st.integers(0, 20_000)))


@st.composite
def logs(draw: st.DrawFn) -> list[Recorded[Event]]:
    """Any log: streams of a few videos, jobs and workers, one event after the other."""
    making = _Making(draw)
    streams = [
        *(_video(making, video_id) for video_id in VIDEOS),
        _contents(making, "5a" * 32),
        *(_job(making, job_id, VIDEOS[0]) for job_id in JOBS),
        *(_worker(making, worker_id) for worker_id in WORKERS),
        *(_ticks(making, job_id) for job_id in JOBS),
        *(_failures(making, job_id) for job_id in JOBS),
        *(_viewer(making, viewer_id) for viewer_id in VIEWERS),
    ]
    return history(_recorded(event) for event in _interleaved(draw, [list(stream) for stream in streams]))


@st.composite
def repeated(draw: st.DrawFn, log: Sequence[Recorded[Event]]) -> list[Recorded[Event]]:
    """The log with repetitions: same envelope, a later position in the same partition."""
    turns = list(range(len(log)))
    for number in range(len(log)):
        turns.insert(draw(st.integers(turns.index(number) + 1, len(turns))), number)
    return history(log[number] for number in turns)


@st.composite
def reordered(draw: st.DrawFn, log: Sequence[Recorded[Event]]) -> list[Recorded[Event]]:
    """The log as another reader may meet it: partitions in order, mixed in another way."""
    partitions: dict[tuple[str, int], list[Recorded[Event]]] = {}
    for record in log:
        partitions.setdefault((record.topic, record.partition), []).append(record)
    return _interleaved(draw, list(partitions.values()))


def _recorded(event: Envelope[Event]) -> Recorded[Event]:
    topic = TOPIC_OF[event.data.TYPE]
    return Recorded(topic.name, partition_for(event.subject, topic.partitions), 0, event)


def _interleaved(draw: st.DrawFn, streams: Sequence[Sequence[object]]) -> list:  # type: ignore[type-arg]
    """Return the items of all streams, each stream in its order."""
    turns = draw(st.permutations([n for n, stream in enumerate(streams) for _ in stream]))
    waiting = [iter(stream) for stream in streams]
    return [next(waiting[turn]) for turn in turns]

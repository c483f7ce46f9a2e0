"""Whatever happens between reading and deciding, planning decides the same: crashes, rebuilds, topics that come in any order."""

import copy
from collections import Counter
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from events.envelope import Envelope, Event, Recorded
from events.jobs import JobCompleted, JobFailed, JobQueued, JobSubmitted, RetryRequested
from events.kinds import (
    AnalyseResult,
    AnalyseSpec,
    EncodeSpec,
    ExtrasResult,
    ExtrasSpec,
    JobResult,
    MediaResult,
    VerifyResult,
    VerifySpec,
)
from events.media import PlanSettings
from events.topics import JOB_REQUESTS, JOBS, VIDEOS
from events.videos import VideoFailed, VideoPlanned, VideoPublished, VideoRetryRequested
from infra.runtime.clock import new_id
from processors.planning import process as planning
from processors.planning.plan import plan
from tests.support.deciding import BROKEN, VIDEO, Live, ref, uploaded
from tests.support.folding import folded
from tests.support.footage import PROBE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OTHERS = (PlanSettings(), PlanSettings(segment_s=2, chunk_s=4), PlanSettings(format="hls_ts", codec="hevc", hdr="keep"))


class World:
    """One video: its log, a dispatcher with a worker, who fail one job once, a person who retries, and planning itself."""

    def __init__(self, *, fails: bool) -> None:
        self.log: dict[str, list[Recorded[Event]]] = {VIDEOS.name: [], JOBS.name: []}
        self.positions = dict.fromkeys(self.log, 0)
        self.written: list[Envelope[Event]] = []
        self.policy = planning.Policy(PlanSettings(), "default")
        self.planning = Live(planning.process(self.policy))
        self.jobs: dict[str, JobQueued] = {}
        self._failing = fails
        self.waiting: list[Event] = []
        self._append(VIDEOS.name, uploaded())

    def _append(self, topic: str, event: Event, id_: str | None = None) -> None:
        envelope = Envelope(id_ or new_id(), "test", VIDEO, NOW, event, VIDEO)
        self.log[topic].append(Recorded(topic, 0, len(self.log[topic]), envelope))

    def write(self, events: list[Envelope[Event]]) -> None:
        """Take what planning appends, and answer it; workers need their time."""
        self.written += events
        for envelope in events:
            event = envelope.data
            match event:
                case JobSubmitted() if event.job_id not in self.jobs:
                    known = {"job_id": event.job_id, "video_id": VIDEO, "pool": event.pool}
                    job = JobQueued(spec=event.spec, requirements=event.requirements, priority="normal", **known)
                    self.jobs[event.job_id] = job
                    self._append(JOBS.name, job)
                    self.waiting.append(self._end(job, 1))
                case RetryRequested() if self._has_failed(event.job_id):
                    job = self.jobs[event.job_id].model_copy(update={"reason": "retried"})
                    self._append(JOBS.name, job)
                    self.waiting.append(self._end(job, 2))
                case JobSubmitted() | RetryRequested():
                    continue
                case _:
                    if not any(isinstance(event, kind) for kind in JOB_REQUESTS.events):
                        self._append(VIDEOS.name, event, envelope.id)
                    if isinstance(event, VideoFailed):
                        self.waiting.append(VideoRetryRequested(video_id=VIDEO))

    def _has_failed(self, job_id: str) -> bool:
        said = [record.envelope.data for record in self.log[JOBS.name]]
        return isinstance([event for event in said if getattr(event, "job_id", "") == job_id][-1], JobFailed)

    def _end(self, job: JobQueued, epoch: int) -> Event:
        known = {"job_id": job.job_id, "video_id": VIDEO, "pool": "default", "epoch": epoch}
        if self._failing and isinstance(job.spec, EncodeSpec):
            self._failing = False
            return JobFailed(attempt=1, failure=BROKEN, **known)
        result: JobResult
        match job.spec:
            case EncodeSpec():
                result = MediaResult(renditions=(), result=ref(job.job_id))
            case ExtrasSpec():
                result = ExtrasResult(result=ref(job.job_id))
            case VerifySpec():
                result = VerifyResult(duration_ms=1, rungs=("360p",))
            case spec if spec.kind == "analyse":
                result = AnalyseResult(probe=PROBE)
            case _:
                result = MediaResult(renditions=(), result=ref(job.job_id))
        return JobCompleted(worker_id="w", attempt=1, result=result, **known)

    def work(self, at: int) -> None:
        """Let one of the things happen that take time."""
        event = self.waiting.pop(at % len(self.waiting))
        self._append(VIDEOS.name if isinstance(event, VideoRetryRequested) else JOBS.name, event)

    def read(self, topic: str, count: int, *, crash: bool) -> None:
        """Handle a batch of a topic; in a crash it was appended what follows, and nothing was committed."""
        start = self.positions[topic]
        before = copy.deepcopy((self.planning.rows, self.planning._decided))
        records = self.log[topic][start : start + count]
        self.write(self.planning.handle(records, NOW))
        if crash:
            self.planning.rows, self.planning._decided = before
        else:
            self.positions[topic] = start + len(records)

    def rebuild(self, topics: list[str]) -> None:
        """Fold anew, one topic after the other, and let that serve: it must be what serves now."""
        records = [record for topic in topics for record in self.log[topic][: self.positions[topic]]]
        rows = folded(planning.PROJECTION, records)
        assert rows == self.planning.rows
        self.planning.rows = rows

    def settle(self) -> None:
        """Look at rows to which nothing came."""
        self.write(self.planning.tick(NOW))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans())
def test_a_video_is_planned_once_and_goes_on_whatever_happens(data: st.DataObject, fails: bool) -> None:
    world = World(fails=fails)
    topics = [VIDEOS.name, JOBS.name]
    crashes = 0
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(("read", "read", "read", "crash", "rebuild", "settle", "work", "work", "change"))):
            case "work" if world.waiting:
                world.work(data.draw(st.integers(0, 9)))
            case "rebuild":
                world.rebuild(data.draw(st.permutations(topics)))
            case "settle":
                world.settle()
            case "change":
                world.policy.plan = data.draw(st.sampled_from(OTHERS))
            case ("read" | "crash") as what:
                crashes += what == "crash"
                world.read(data.draw(st.sampled_from(topics)), data.draw(st.integers(1, 4)), crash=what == "crash")
            case _:
                pass  # no work waits
    for _ in range(200):
        for topic in topics:
            world.read(topic, 3, crash=False)
        if world.waiting:
            world.work(0)
        elif all(world.positions[topic] == len(world.log[topic]) for topic in topics):
            break
    world.rebuild(topics)
    (row,) = world.planning.rows["videos"].values()
    assert row.state == "published"

    once = {envelope.id: envelope for envelope in world.written}
    assert crashes or len(once) == len(world.written), "nothing is written twice"
    asked = {id_ for id_, envelope in once.items() if isinstance(getattr(envelope.data, "spec", None), AnalyseSpec)}
    repeated = [envelope for envelope in world.written if envelope.id not in asked]
    assert all(once[envelope.id].data == envelope.data for envelope in repeated), "a repetition is the same, also by other settings"
    (analysis,) = [job.spec for job in world.jobs.values() if isinstance(job.spec, AnalyseSpec)]
    assert row.plan == plan(PROBE, analysis.settings or PlanSettings()), "the settings of the first moment are those of the plan"
    submitted = Counter(envelope.data.job_id for envelope in once.values() if isinstance(envelope.data, JobSubmitted))
    assert set(submitted.values()) == {1} and len(submitted) == len(row.job_ids) + 2
    kinds = Counter(type(envelope.data) for envelope in once.values())
    assert kinds[VideoPublished] == 1 and kinds[VideoFailed] == fails and kinds[VideoPlanned] == 1 + fails
    count = len(world.written)
    world.settle()
    assert len(world.written) == count, "nothing is left to decide"

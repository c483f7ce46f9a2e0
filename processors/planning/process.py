"""From upload to publication: which job comes next for a video, and when it is published or has failed.

    uploaded -> analyse -> plan -> encode per chunk + audio per track + extras -> verify -> published
                    \\___________________ a job failed for good ______________________/ -> failed

When hardware fails for good at a chunk of several, the whole video is planned anew in software: chunks of two encoders would
not join. Sound and extras stay.

The process reads `videos` and `jobs`. Nothing is known about the order between these topics, so every decision is made
from the row as it stands (`Planning._next_step`), never from the event that happens to come.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_never
from uuid import UUID, uuid5

from events.envelope import Envelope, Event, Recorded, derive
from events.jobs import (
    CancelRequested,
    ClaimRefused,
    DispatchPaused,
    DispatchResumed,
    JobAttemptFailed,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFact,
    JobFailed,
    JobQueued,
    JobReleased,
    JobSubmitted,
    LeaseExpired,
    PartAccepted,
    RequestRefused,
    ResultRefused,
    RetryRequested,
)
from events.kinds import (
    AnalyseResult,
    AnalyseSpec,
    ExtrasResult,
    JobSpec,
    MakingResult,
    MediaResult,
    RerunSpec,
    Source,
    VerifyResult,
    VerifySpec,
)
from events.media import Failure, ObjectRef, Plan, Probe, in_software, is_hardware
from events.topics import JOBS, VIDEOS
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoEvent,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
)
from processors.agents.process import Process
from processors.planning.plan import PlanSettings, jobs_for, plan
from processors.planning.reruns import verdict_on
from producers.probes import bounded
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load

SOURCE = "kinolog/planning"
Heard = VideoUploaded | VideoRetryRequested | VideoPurged | JobCompleted | JobFailed | JobQueued | RequestRefused
"""What a row is folded from."""


@table_row
class Row:
    """One video. `submitted` are the jobs asked for in this round, `completed` maps finished ones to their result.json.

    `reruns` are those of its failed attempts that have not ended.
    """

    video_id: str
    source: Source | None = None
    priority: Literal["high", "normal", "low"] = "normal"
    round: int = 0
    submitted: tuple[str, ...] = ()
    probe: Probe | None = None
    plan: Plan | None = None
    completed: dict[str, ObjectRef] | None = None
    thumbnail: ObjectRef | None = None
    verified: VerifyResult | None = None
    failed_job: str | None = None
    failure: Failure | None = None
    reruns: dict[str, RerunSpec] | None = None
    state: Literal["waiting", "working", "retrying", "published", "failed", "purged"] = "waiting"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the planner may decide by: the plan's settings and the pool that takes the jobs."""

    plan: PlanSettings
    pool: str


def job_id(video_id: str, round_: int, name: str) -> str:
    """Return the id of a video's job in a round: the same however often it is derived."""
    return str(uuid5(UUID(video_id), f"{round_}/{name}"))


def keys_of(recorded: Recorded[VideoEvent | JobFact]) -> Collection[tuple[str]]:
    """Return the row that the event is about."""
    event = recorded.envelope.data
    match event:
        case VideoUploaded() | VideoRetryRequested() | VideoPurged() | JobCompleted() | JobFailed():
            return ((event.video_id,),)
        case JobQueued():
            return ((event.video_id,),) if isinstance(event.spec, RerunSpec) else ()
        case RequestRefused():
            return ((event.video_id,),) if event.video_id is not None else ()
        case JobClaimed() | JobAttemptFailed() | LeaseExpired() | JobReleased() | JobCancelled() | PartAccepted():
            return ()
        case ClaimRefused() | ResultRefused() | DispatchPaused() | DispatchResumed():
            return ()
        case UploadStarted() | UploadAbandoned() | VideoEdited() | VideoArchived() | VideoRestored():
            return ()
        case VideoProbed() | VideoPlanned() | VideoPublished() | VideoFailed():
            return ()  # its own; what they say is in the row already
        case _:
            assert_never(event)


def evolve(row: Row | None, recorded: Recorded[Heard]) -> Row | None:
    """Note what happened; decide nothing."""
    event = recorded.envelope.data
    match event:
        case VideoUploaded():
            row = row or Row(event.video_id)
            if row.source is None:
                source = Source(object_key=event.object_key, size_bytes=event.size_bytes, sha256=event.sha256, etag=event.etag)
                row = replace(row, source=source, priority=event.priority)
        case JobCompleted():
            row = _with_result(row or Row(event.video_id), event)
        case JobFailed() | RequestRefused():
            mine = row is not None and event.job_id in row.submitted
            if row is not None and mine and row.failed_job is None and row.state == "working" and event.failure is not None:
                row = replace(row, failed_job=event.job_id, failure=event.failure)
        case VideoRetryRequested():
            if row is not None and row.state == "failed":
                row = _next_round(row)
        case JobQueued():
            row = row or Row(event.video_id)
            if isinstance(event.spec, RerunSpec):
                row = replace(row, reruns=(row.reruns or {}) | {event.job_id: event.spec})
        case VideoPurged():
            row = replace(row or Row(event.video_id), state="purged")
        case _:
            assert_never(event)
    return row


def _with_result(row: Row, event: JobCompleted) -> Row:
    if not isinstance(event.result, MakingResult):
        return row
    match event.result:
        case AnalyseResult(probe=probe):
            return row if row.probe else replace(row, probe=probe)
        case VerifyResult() as verified:
            return row if row.verified else replace(row, verified=verified)
        case MediaResult(result=result):
            return replace(row, completed={event.job_id: result} | (row.completed or {}))
        case ExtrasResult(result=result, thumbnail=thumbnail):
            completed = {event.job_id: result} | (row.completed or {})
            return replace(row, completed=completed, thumbnail=row.thumbnail or thumbnail)
        case _:
            assert_never(event.result)


def _next_round(row: Row) -> Row:
    """Forget the failure. A failed job is retried as it is; after a failed verification or plan all is made anew."""
    if row.failed_job is not None and row.failed_job != job_id(row.video_id, row.round, "verify"):
        return replace(row, state="retrying", failed_job=None, failure=None)
    return Row(row.video_id, row.source, row.priority, row.round + 1, reruns=row.reruns)


class Planning:
    """The process's `react`, bound to its policy and clock."""

    def __init__(self, policy: Policy, now: Callable[[], datetime]) -> None:
        self._policy = policy
        self._now = now

    def react(self, row: Row | None, recorded: Recorded[Event]) -> tuple[Row | None, list[Envelope[Event]]]:
        """Return the row and what follows from it, step by step until nothing does."""
        if row is None:
            return row, []
        events: list[tuple[Event, str]] = []
        event = recorded.envelope.data
        if row.reruns and isinstance(event, JobCompleted | JobFailed) and (told := verdict_on(row.reruns, event)) is not None:
            row = replace(row, reruns={job: spec for job, spec in row.reruns.items() if job != event.job_id} or None)
            events.append((told, told.failure_id))
        while True:
            row, more = self._next_step(row)
            if not more:
                break
            events += more
        return row, self._derived(recorded, events)

    def _derived(self, recorded: Recorded[Event], events: Iterable[tuple[Event, str]]) -> list[Envelope[Event]]:
        now = self._now()
        return [
            derive(recorded.envelope, index, data=event, subject=subject, source=SOURCE, time=now)
            for index, (event, subject) in enumerate(events)
        ]

    def _next_step(self, row: Row) -> tuple[Row, list[tuple[Event, str]]]:
        """Decide from the row alone: one step forward, and nothing when it was taken already."""
        if row.state in ("published", "failed", "purged") or row.source is None:
            return row, []
        if row.state == "retrying":
            return replace(row, state="working"), self._retries(row)
        if row.failed_job is not None and row.failure is not None:
            if (again := self._in_software(row, row.failed_job, row.failure)) is not None:
                return again
            return self._fail(row, row.failure)
        if not row.submitted:
            spec = AnalyseSpec(source=row.source)
            return self._submit(replace(row, state="working"), {"analyse": spec})
        if row.probe is not None and row.plan is None:
            return self._plan(row, row.source, row.probe)
        verify = job_id(row.video_id, row.round, "verify")
        if row.verified is not None:
            published = VideoPublished(
                video_id=row.video_id,
                duration_ms=row.verified.duration_ms,
                rungs=row.verified.rungs,
                thumbnail=row.thumbnail,
                warnings=row.verified.warnings,
            )
            return replace(row, state="published"), [(published, row.video_id)]
        completed = row.completed or {}
        analyse = job_id(row.video_id, row.round, "analyse")
        wanted = [job for job in row.submitted if job != analyse]
        if row.plan is not None and verify not in row.submitted and all(job in completed for job in wanted):
            results = tuple(completed[job] for job in wanted)
            return self._submit(row, {"verify": VerifySpec(plan=row.plan, results=results)})
        return row, []

    def _plan(self, row: Row, source: Source, probe: Probe) -> tuple[Row, list[tuple[Event, str]]]:
        settings = self._policy.plan
        decided = plan(probe, settings)
        probe, _ = bounded(probe, tracks_max=settings.tracks_max, text_max=settings.name_max)
        row = replace(row, probe=probe)
        probed = VideoProbed(video_id=row.video_id, probe=probe)
        if isinstance(decided, Failure):
            row, events = self._fail(row, decided)
            return row, [(probed, row.video_id), *events]
        specs = jobs_for(source.model_copy(update={"sha256": probe.sha256}), decided, probe)
        row, submitted = self._submit(replace(row, plan=decided), specs)
        planned = VideoPlanned(video_id=row.video_id, plan=decided, job_ids=row.submitted[1:])
        return row, [(probed, row.video_id), (planned, row.video_id), *submitted]

    def _in_software(self, row: Row, failed_job: str, failure: Failure) -> tuple[Row, list[tuple[Event, str]]] | None:
        """Return what follows when hardware has failed at a chunk of several; None when that is not so."""
        video = row.plan.video if row.plan is not None else None
        if row.plan is None or video is None or row.source is None or row.probe is None:
            return None
        names = {job_id(row.video_id, row.round, name): name for name in jobs_for(row.source, row.plan, row.probe)}
        chunks = {job: name for job, name in names.items() if name.startswith("encode-")}
        if not is_hardware(video.encoder) or len(video.chunks) == 1 or failed_job not in chunks or failure.stage != "encoding":
            return None
        why = f"{video.encoder}: {failure.code}: {failure.message}"
        note = f"software instead of {video.encoder}, which failed at a chunk"
        plan = row.plan.model_copy(update={"video": in_software(video, why), "notes": (*row.plan.notes, note)})
        source = row.source.model_copy(update={"sha256": row.probe.sha256})
        specs = {f"{name} in software": spec for name, spec in jobs_for(source, plan, row.probe).items() if name in chunks.values()}
        cancelled = [
            (CancelRequested(job_id=job, pool=self._policy.pool, reason=note), self._policy.pool)
            for job in self._unfinished(row)
            if job in chunks and job != failed_job
        ]
        kept = tuple(job for job in row.submitted if job not in chunks)
        row, submitted = self._submit(replace(row, plan=plan, submitted=kept, failed_job=None, failure=None), specs)
        planned = VideoPlanned(video_id=row.video_id, plan=plan, job_ids=row.submitted[1:])
        return row, [(planned, row.video_id), *cancelled, *submitted]

    def _submit(self, row: Row, specs: dict[str, JobSpec]) -> tuple[Row, list[tuple[Event, str]]]:
        pool = self._policy.pool
        ids = {name: job_id(row.video_id, row.round, name) for name in specs}
        events: list[tuple[Event, str]] = [
            (
                JobSubmitted(
                    job_id=ids[name],
                    video_id=row.video_id,
                    pool=pool,
                    spec=spec,
                    requirements=spec.requirements(),
                    priority=row.priority,
                ),
                pool,
            )
            for name, spec in specs.items()
        ]
        return replace(row, submitted=(*row.submitted, *ids.values())), events

    def _fail(self, row: Row, failure: Failure) -> tuple[Row, list[tuple[Event, str]]]:
        """Publish the failure and call off what is not needed any more."""
        failed = VideoFailed(video_id=row.video_id, job_id=row.failed_job, failure=failure)
        cancels: list[tuple[Event, str]] = [
            (CancelRequested(job_id=job, pool=self._policy.pool, reason="another job of this video failed"), self._policy.pool)
            for job in self._unfinished(row)
            if job != row.failed_job
        ]
        return replace(row, state="failed"), [(failed, row.video_id), *cancels]

    def fail(
        self, key: tuple[str], row: Row | None, recorded: Recorded[Event], failure: Failure
    ) -> tuple[Row, list[Envelope[Event]]]:
        """Return a video at which planning went wrong as one that has failed: a retry makes all of it anew."""
        row = row or Row(*key)
        if row.state in ("published", "failed", "purged"):
            return row, []
        row, events = self._fail(replace(row, failed_job=None, failure=failure), failure)
        return row, self._derived(recorded, events)

    def _retries(self, row: Row) -> list[tuple[Event, str]]:
        pool = self._policy.pool
        return [(RetryRequested(job_id=job, pool=pool, reason="the video is retried"), pool) for job in self._unfinished(row)]

    def _unfinished(self, row: Row) -> list[str]:
        completed = row.completed or {}
        analysed = job_id(row.video_id, row.round, "analyse") if row.probe is not None else None
        return [job for job in row.submitted if job not in completed and job != analysed]


PROJECTION = Projection(
    "planning",
    (VIDEOS, JOBS),
    (Table("videos", Row, ("video_id",), keys_of, evolve),),
    load(Path(__file__).with_name("process.sql"))["create"],
)


def process(policy: Policy, now: Callable[[], datetime]) -> Process[Row]:
    """Return the planning process."""
    planning = Planning(policy, now)
    return Process(PROJECTION, planning.react, planning.fail)

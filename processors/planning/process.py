"""Planning, from upload to publication: the next job of each video, its publication or its failure.

    uploaded -> analyse -> plan -> encode per chunk + audio per track + extras -> verify -> published
                    \\___________________ a job failed for good ______________________/ -> failed

When hardware fails for good at one of several chunks, the whole video is planned again in software: chunks of two encoders do not
join. Sound and extras stay.

The row is a fold of `videos`, which has planning's own facts, and of `jobs`. The order between these topics is undefined, so each
has columns of its own, and `Planning.decide` decides from the row alone, never from a single event. A fact that the row folds
records each decision: `VideoPlanned`, `VideoPublished`,
`VideoFailed`, or the dispatcher's `JobQueued` for an analysis or a verification.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_never, cast
from uuid import UUID, uuid5

from events.envelope import Recorded, Value
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
    Source,
    VerifyResult,
    VerifySpec,
)
from events.media import Failure, ObjectRef, Plan, PlanSettings, Probe, in_software, is_hardware
from events.topics import JOBS, VIDEOS
from events.videos import (
    Retried,
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
    VideoVisibilityChanged,
)
from processors.agents.process import Decision, Derived, Process, Rule, isolated
from processors.planning import reruns
from processors.planning.plan import jobs_for, plan
from producers.probes import bounded
from projections.folding.fold import Key, Projection, Table, table_row
from projections.folding.queries import load
from projections.folding.repeats import once

SOURCE = "kinolog/planning"
OfVideos = VideoUploaded | VideoProbed | VideoPlanned | VideoPublished | VideoFailed | VideoRetryRequested | VideoPurged
OfJobs = JobQueued | JobCompleted | JobFailed | RequestRefused
"""Events of a row."""
ENDED = ("published", "failed", "purging", "purged")
_SQL = load(Path(__file__).with_name("process.sql"))


class Made(Value):
    """The part of a completed job's result that planning needs."""

    probe: Probe | None = None
    result: ObjectRef | None = None
    thumbnail: ObjectRef | None = None
    verified: VerifyResult | None = None


class Lost(Value):
    """The final failure of a job, and the epoch of its claim: 0 when it could not even be queued."""

    epoch: int
    failure: Failure


@table_row
class Row:
    """One video.

    From `videos`: `job_ids` are the jobs of the `plan`, `retried` the epochs of their failures that were retried since, `retry`
    the id of the last retry, `failed_job` the job at which the video failed, `seen` ids of events. A `round` ends when a retry
    makes everything anew; jobs of another round have other ids.

    From `jobs`, by job: `made` results, `lost` jobs with their failures, `queued` analyses and verifications, and the `settings` of
    analyses for the plan that follows.

    `fault` is the reason why an event about the video could not be folded.
    """

    video_id: str
    source: Source | None = None
    priority: Literal["high", "normal", "low"] = "normal"
    state: Literal["waiting", "working", "retrying", "published", "failed", "purging", "purged"] = "waiting"
    round: int = 0
    probe: Probe | None = None
    plan: Plan | None = None
    job_ids: tuple[str, ...] = ()
    retried: dict[str, int] | None = None
    retry: str | None = None
    failed_job: str | None = None
    seen: tuple[str, ...] = ()
    made: dict[str, Made] | None = None
    lost: dict[str, Lost] | None = None
    queued: tuple[str, ...] = ()
    settings: dict[str, PlanSettings] | None = None
    fault: Failure | None = None


@dataclass(slots=True)
class Policy:
    """The planner's policy: settings of plans, and the pool for the jobs. A change is for videos whose analysis has not begun."""

    plan: PlanSettings
    pool: str


def job_id(video_id: str, round_: int, name: str) -> str:
    """Return the id of a video's job in a round, derived from its name."""
    return str(uuid5(UUID(video_id), f"{round_}/{name}"))


# --- the fold -------------------------------------------------------------------------------------------------------


def keys_of(recorded: Recorded[VideoEvent | JobFact]) -> Sequence[tuple[str]]:
    """Return the key of the event's row."""
    event = recorded.envelope.data
    match event:
        case VideoUploaded() | VideoProbed() | VideoPlanned() | VideoPublished() | VideoFailed() | VideoRetryRequested():
            return ((event.video_id,),)
        case VideoPurged() | JobFailed():
            return ((event.video_id,),)
        case JobQueued():
            return ((event.video_id,),) if isinstance(event.spec, AnalyseSpec | VerifySpec) else ()
        case JobCompleted():
            return ((event.video_id,),) if isinstance(event.result, MakingResult) else ()
        case RequestRefused():
            return ((event.video_id,),) if event.video_id is not None and event.failure is not None else ()
        case JobClaimed() | JobAttemptFailed() | LeaseExpired() | JobReleased() | JobCancelled() | PartAccepted():
            return ()
        case ClaimRefused() | ResultRefused() | DispatchPaused() | DispatchResumed():
            return ()
        case UploadStarted() | UploadAbandoned() | VideoEdited() | VideoVisibilityChanged() | VideoArchived() | VideoRestored():
            return ()
        case _:
            assert_never(event)


def evolve(row: Row | None, recorded: Recorded[OfVideos | OfJobs]) -> Row | None:
    """Fold an event; decide nothing."""
    event = recorded.envelope.data
    if isinstance(event, OfVideos):
        return _of_videos(row, cast("Recorded[OfVideos]", recorded))
    return _of_jobs(row or Row(str(event.video_id)), event)


@once
def _of_videos(row: Row | None, recorded: Recorded[OfVideos]) -> Row | None:
    event = recorded.envelope.data
    row = row or Row(event.video_id)
    if row.state in ("purging", "purged"):
        return row
    match event:
        case VideoUploaded():
            source = Source(object_key=event.object_key, size_bytes=event.size_bytes, sha256=event.sha256, etag=event.etag)
            return row if row.source else replace(row, source=source, priority=event.priority, state="working")
        case VideoProbed(probe=probe):
            return replace(row, probe=probe)
        case VideoPlanned():
            if event.round not in (None, row.round):
                return row
            again = (row.retried or {}) | {one.job_id: one.epoch for one in event.retried or ()}
            return replace(row, state="working", plan=event.plan, job_ids=event.job_ids, retried=again or None)
        case VideoPublished():
            return replace(row, state="published")
        case VideoFailed():
            return replace(row, state="failed", failed_job=event.job_id)
        case VideoRetryRequested():
            return _again(row, recorded.envelope.id) if row.state == "failed" else row
        case VideoPurged():
            return replace(row, state="purging" if row.state in ("working", "retrying") else "purged")
        case _:
            assert_never(event)


def _again(row: Row, retry: str) -> Row:
    """Forget the failure. The jobs of a plan are retried; after any other failure everything is made anew."""
    if row.plan is not None and row.failed_job in row.job_ids:
        return replace(row, state="retrying", retry=retry, failed_job=None)
    anew = replace(row, state="working", round=row.round + 1, retry=retry, failed_job=None, fault=None)
    return replace(anew, probe=None, plan=None, job_ids=(), retried=None)


def _of_jobs(row: Row, event: OfJobs) -> Row:
    match event:
        case JobQueued():
            return row if event.job_id in row.queued else _queued(row, event)
        case JobCompleted():
            made = _made(event.result) if isinstance(event.result, MakingResult) else Made()
            return replace(row, made={event.job_id: made} | (row.made or {}))
        case JobFailed():
            return _without(row, event.job_id, Lost(epoch=event.epoch, failure=event.failure))
        case RequestRefused():
            return row if event.failure is None else _without(row, event.job_id, Lost(epoch=0, failure=event.failure))
        case _:
            assert_never(event)


def _queued(row: Row, event: JobQueued) -> Row:
    row = replace(row, queued=tuple(sorted((*row.queued, event.job_id))))
    if not isinstance(event.spec, AnalyseSpec) or event.spec.settings is None:
        return row
    return replace(row, settings=(row.settings or {}) | {event.job_id: event.spec.settings})


def _made(result: MakingResult) -> Made:
    match result:
        case AnalyseResult(probe=probe):
            return Made(probe=probe)
        case VerifyResult() as verified:
            return Made(verified=verified)
        case MediaResult(result=made):
            return Made(result=made)
        case ExtrasResult(result=made, thumbnail=thumbnail):
            return Made(result=made, thumbnail=thumbnail)
        case _:
            assert_never(result)


def _without(row: Row, job: str, lost: Lost) -> Row:
    """Return the row with a lost job; the latest claim counts."""
    known = row.lost or {}
    if job in known and known[job].epoch >= lost.epoch:
        return row
    return replace(row, lost=known | {job: lost})


def noted(key: Key, row: Row | None, failure: Failure) -> Row:
    """Return the row with the fault of an event that could not be folded."""
    return replace(row or Row(str(key[0])), fault=failure)


# --- decisions ------------------------------------------------------------------------------------------------------


class Planning:
    """Decisions about a row, by a policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def decide(self, row: Row, now: datetime) -> Decision | None:
        """Return the due step; None when there is none, or when it waits for the log."""
        if row.state == "purging":
            return Decision("purge", self._cancelled(row, "the video was purged", _unfinished(row)))
        if row.source is None or row.state in ENDED:
            return None
        if row.fault is not None:
            return self.fail(row, row.fault)
        if row.state == "retrying":
            return self._resume(row)
        if (lost := _first_lost(row)) is not None:
            return self._in_software(row, *lost) or self._fail(row, f"fail/{lost[0]}/{lost[1].epoch}", lost[1].failure, lost[0])
        return self._make(row, row.source) if row.plan is None else self._finish(row, row.plan)

    def _make(self, row: Row, source: Source) -> Decision | None:
        """Have the source analysed; then plan."""
        analyse = job_id(row.video_id, row.round, "analyse")
        analysis = (row.made or {}).get(analyse)
        if analysis is not None and analysis.probe is not None:
            return self._plan(row, source, analysis.probe, (row.settings or {}).get(analyse, PlanSettings()))
        if analyse in row.queued:
            return None
        spec = AnalyseSpec(source=source, settings=self._policy.plan)
        return Decision(f"{row.round}/analyse", self._submitted(row, {"analyse": spec}))

    def _plan(self, row: Row, source: Source, probe: Probe, settings: PlanSettings) -> Decision:
        decided = plan(probe, settings)
        probe, _ = bounded(probe, tracks_max=settings.tracks_max, text_max=settings.name_max)
        probed: Derived = (VideoProbed(video_id=row.video_id, probe=probe), row.video_id)
        if isinstance(decided, Failure):
            failed = self._fail(row, "plan", decided)
            return replace(failed, facts=(probed, *failed.facts))
        specs = jobs_for(source.model_copy(update={"sha256": probe.sha256}), decided, probe)
        return Decision(
            f"{row.round}/plan", self._submitted(row, specs), (probed, self._planned(row, decided, self._ids(row, specs)))
        )

    def _finish(self, row: Row, decided: Plan) -> Decision | None:
        """Have the outputs verified; then publish them."""
        made = row.made or {}
        verify = job_id(row.video_id, row.round, "verify")
        if verify in made and (verified := made[verify].verified) is not None:
            thumbnails = [made[job].thumbnail for job in row.job_ids if job in made and made[job].thumbnail]
            published = VideoPublished(
                video_id=row.video_id,
                duration_ms=verified.duration_ms,
                rungs=verified.rungs,
                thumbnail=next(iter(thumbnails), None),
                warnings=verified.warnings,
            )
            return Decision(f"{row.round}/publish", facts=((published, row.video_id),))
        results = [made[job].result for job in row.job_ids if job in made]
        if verify in row.queued or len(results) < len(row.job_ids):
            return None
        spec = VerifySpec(plan=decided, results=tuple(result for result in results if result is not None))
        return Decision(f"{row.round}/verify", self._submitted(row, {"verify": spec}))

    def _in_software(self, row: Row, failed_job: str, lost: Lost) -> Decision | None:
        """Return the step after hardware failed at one of several chunks; else None."""
        video, failure = (row.plan.video if row.plan is not None else None), lost.failure
        if row.plan is None or video is None or row.source is None or row.probe is None:
            return None
        names = {job_id(row.video_id, row.round, name): name for name in jobs_for(row.source, row.plan, row.probe)}
        chunks = {job: name for job, name in names.items() if name.startswith("encode-")}
        if not is_hardware(video.encoder) or len(video.chunks) == 1 or failed_job not in chunks or failure.stage != "encoding":
            return None
        why = f"{video.encoder}: {failure.code}: {failure.message}"
        note = f"software instead of {video.encoder}, which failed at a chunk"
        decided = row.plan.model_copy(update={"video": in_software(video, why), "notes": (*row.plan.notes, note)})
        source = row.source.model_copy(update={"sha256": row.probe.sha256})
        wanted = jobs_for(source, decided, row.probe)
        specs = {f"{name} in software": spec for name, spec in wanted.items() if name in chunks.values()}
        kept = tuple(job for job in row.job_ids if job not in chunks)
        cancelled = self._cancelled(row, note, [job for job in _unfinished(row) if job in chunks and job != failed_job])
        planned = self._planned(row, decided, (*kept, *self._ids(row, specs)))
        return Decision(f"{row.round}/software", (*cancelled, *self._submitted(row, specs)), (planned,))

    def _resume(self, row: Row) -> Decision:
        """Retry the unfinished jobs of a plan, and count their failures as retried."""
        assert row.plan is not None, "a video without a plan is made anew"
        pool = self._policy.pool
        wanted = tuple((RetryRequested(job_id=job, pool=pool, reason="the video is retried"), pool) for job in _unfinished(row))
        return Decision(f"{row.round}/retry/{row.retry}", wanted, (self._planned(row, row.plan, row.job_ids),))

    def fail(self, row: Row, failure: Failure) -> Decision | None:
        """Return the decision that a video has failed because planning went wrong: a retry makes all of it anew."""
        return None if row.state in ENDED else self._fail(row, "fault", failure)

    def _fail(self, row: Row, name: str, failure: Failure, failed_job: str | None = None) -> Decision:
        """Publish the failure and cancel the other jobs."""
        useless = [job for job in _unfinished(row) if job != failed_job]
        failed = VideoFailed(video_id=row.video_id, job_id=failed_job, failure=failure)
        effects = self._cancelled(row, "another job of this video failed", useless)
        return Decision(f"{row.round}/{name}", effects, ((failed, row.video_id),))

    def _planned(self, row: Row, decided: Plan, job_ids: tuple[str, ...]) -> Derived:
        lost = sorted((row.lost or {}).items())
        again = tuple(Retried(job_id=job, epoch=one.epoch) for job, one in lost if job in job_ids) or None
        return (
            VideoPlanned(video_id=row.video_id, plan=decided, job_ids=job_ids, round=row.round, retried=again),
            row.video_id,
        )

    def _ids(self, row: Row, specs: dict[str, JobSpec]) -> tuple[str, ...]:
        return tuple(job_id(row.video_id, row.round, name) for name in specs)

    def _submitted(self, row: Row, specs: dict[str, JobSpec]) -> tuple[Derived, ...]:
        pool = self._policy.pool
        return tuple(
            (
                JobSubmitted(
                    job_id=job,
                    video_id=row.video_id,
                    pool=pool,
                    spec=spec,
                    requirements=spec.requirements(),
                    priority=row.priority,
                ),
                pool,
            )
            for job, spec in zip(self._ids(row, specs), specs.values(), strict=True)
        )

    def _cancelled(self, row: Row, reason: str, jobs: Collection[str]) -> tuple[Derived, ...]:
        pool = self._policy.pool
        return tuple((CancelRequested(job_id=job, pool=pool, reason=reason), pool) for job in jobs)


def _current(row: Row) -> tuple[str, ...]:
    """Return the submitted jobs of this round."""
    analyse, verify = (job_id(row.video_id, row.round, name) for name in ("analyse", "verify"))
    first = (analyse,) if row.plan is None else ()
    return (*first, *row.job_ids, *((verify,) if verify in row.queued else ()))


def _unfinished(row: Row) -> list[str]:
    return [job for job in _current(row) if job not in (row.made or {})]


def _first_lost(row: Row) -> tuple[str, Lost] | None:
    """Return the first job of this round that has failed for good and was not retried since."""
    lost, again = row.lost or {}, row.retried or {}
    failed = [job for job in _unfinished(row) if job in lost and lost[job].epoch > again.get(job, -1)]
    return (failed[0], lost[failed[0]]) if failed else None


PROJECTION = Projection(
    "planning",
    (VIDEOS, JOBS),
    (Table("videos", Row, ("video_id",), keys_of, isolated("planning", keys_of, evolve, noted)), reruns.TABLE),
    _SQL["create"],
)


def process(policy: Policy) -> Process:
    """Return the planning process."""
    planning = Planning(policy)
    videos, rerun = PROJECTION.tables
    rules = (
        Rule(videos, planning.decide, planning.fail, undecided=_SQL["undecided"]),
        Rule(rerun, reruns.decide),
    )
    return Process(PROJECTION, SOURCE, rules)

"""The folds of jobs and their attempts: given these facts, then these rows."""

from datetime import timedelta

from events.envelope import Event
from events.jobs import JobAttemptFailed, JobCancelled, JobCompleted, JobFailed, JobReleased, LeaseExpired
from events.media import Failure
from projections import jobs
from projections.jobs import Attempt, Job
from tests.support.facts import KNOWN, PLAN, QUEUED, SOON, claimed, held
from tests.support.folding import folded
from tests.support.footage import START, chunk_result, recorded

assert PLAN.video is not None
RETRIED = QUEUED.model_copy(update={"reason": "retried"})
FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")


def rows(*events: Event) -> tuple[Job, list[Attempt]]:
    tables = folded(jobs.PROJECTION, [recorded(event, n, topic="jobs", at_s=n) for n, event in enumerate(events)])
    return tables["jobs"][("j",)], [row for _, row in sorted(tables["attempts"].items())]


def test_a_queued_job_says_what_it_is() -> None:
    job, attempts = rows(QUEUED)
    assert (job.status, job.kind, job.what, job.chunk, job.renditions) == (
        "queued",
        "encode",
        "chunk 1",
        1,
        ("1080p", "720p", "360p"),
    )
    assert attempts == []


def test_a_completed_job_says_what_it_made_and_by_whom() -> None:
    done = JobCompleted(**held(1), attempt=1, result=chunk_result(PLAN, 1))
    job, (attempt,) = rows(QUEUED, claimed(1), done)
    assert (job.status, job.worker_id, job.lease_expires_at) == ("completed", "w", None)
    assert job.made is not None and job.made.segments == 6 and job.made.size_bytes > 0 and job.made.encoder == "libx264"
    assert (attempt.outcome, attempt.started_at, attempt.ended_at) == (
        "completed",
        START + timedelta(seconds=1),
        START + timedelta(seconds=2),
    )


def test_every_attempt_keeps_how_it_ended() -> None:
    failed = JobAttemptFailed(**held(1), attempt=1, failure=FAILURE, retry_at=SOON)
    expired = LeaseExpired(**held(2), attempt=2, retry_at=SOON)
    released = JobReleased(**held(3), reason="drain")
    last = JobFailed(**KNOWN, epoch=4, attempt=3, failure=FAILURE)
    job, attempts = rows(QUEUED, claimed(1), failed, claimed(2), expired, claimed(3), released, claimed(4, 3), last)
    assert [attempt.outcome for attempt in attempts] == ["failed", "expired", "released", "failed"]
    assert (job.status, job.failure, job.attempt, job.retry_at) == ("failed", FAILURE, 3, None)


def test_an_attempt_failed_waits_for_its_time() -> None:
    job, _ = rows(QUEUED, claimed(1), JobAttemptFailed(**held(1), attempt=1, failure=FAILURE, retry_at=SOON))
    assert (job.status, job.retry_at, job.failure) == ("retrying", SOON, FAILURE)


def test_a_retry_by_a_person_counts_attempts_from_zero_and_keeps_the_old_ones() -> None:
    job, attempts = rows(QUEUED, claimed(1), JobFailed(**KNOWN, epoch=1, attempt=1, failure=FAILURE), RETRIED)
    assert (job.status, job.attempt, job.epoch, job.failure, job.ended_at) == ("queued", 0, 1, None, None)
    assert [attempt.outcome for attempt in attempts] == ["failed"]


def test_a_cancelled_job_ends_its_attempt() -> None:
    job, (attempt,) = rows(QUEUED, claimed(1), JobCancelled(**KNOWN, epoch=1, reason="not needed"))
    assert (job.status, attempt.outcome) == ("cancelled", "cancelled")


def test_facts_about_an_unknown_job_make_no_row() -> None:
    log = [recorded(JobCancelled(**KNOWN, epoch=0, reason=""), 0, topic="jobs")]
    assert folded(jobs.PROJECTION, log) == {"jobs": {}, "attempts": {}, "pauses": {}}

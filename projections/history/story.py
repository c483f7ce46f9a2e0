"""The causal story of one job, from the log: requests, decisions with their reasons, and outcomes.

Requests and facts about a job are in its pool's partition of `job-requests` and `jobs`. A claim request does not name a
job, but the resulting claim names the request. People's verdicts on its failures are in `failures`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeGuard, assert_never

from events.codec import decode
from events.envelope import Envelope, Event, Recorded
from events.errors import InvalidEvent
from events.failures import FailureEvent, FailureRerun, FailureResolved
from events.jobs import (
    CancelRequested,
    ClaimRefused,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
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
    JobRequest,
    JobStep,
    JobSubmitted,
    LeaseExpired,
    LeaseReleased,
    LeaseRenewed,
    PartAccepted,
    PartReported,
    PauseRequested,
    RequestRefused,
    RequeueRequested,
    ResultRefused,
    ResultReported,
    ResumeRequested,
    RetryRequested,
)
from events.media import Failure
from events.topics import FAILURES, JOB_REQUESTS, JOBS, Partition, partition_for
from projections import timeline
from projections.folding.log import Source
from projections.jobs import made_by

BEFORE = timedelta(minutes=5)
"""Time to look back before the job was queued: a claim request may have waited by then, and clocks differ."""
BATCH_RECORDS = 20_000
Matches = Callable[[bytes], bool]
StoryEvent = JobRequest | JobFact | FailureEvent
"""Events that may be about a job."""


async def events_of_job(source: Source, job_id: str, pool: str, since: datetime) -> list[Recorded[StoryEvent]]:
    """Return every available event about a job, in causal order. `since` (when the job was queued) limits the reading.

    Leaves out records that cannot be decoded: they are among the dead letters.
    """
    number = partition_for(pool, JOBS.partitions)
    needle = job_id.encode()
    facts = await _matching(source, (JOBS.name, number), since, lambda value: needle in value)
    claims = {fact.envelope.data.claim_id.encode() for fact in facts if isinstance(fact.envelope.data, JobClaimed)}
    requests = await _matching(
        source, (JOB_REQUESTS.name, number), since, lambda value: needle in value or any(claim in value for claim in claims)
    )
    said = await _matching(source, (FAILURES.name, 0), since, lambda value: needle in value)
    return in_causal_order([*facts, *requests, *said])


async def _matching(source: Source, partition: Partition, since: datetime, matches: Matches) -> list[Recorded[StoryEvent]]:
    """Return the events of a partition whose bytes match, from BEFORE `since` to the present end."""
    start = (await source.starts([partition]))[partition]
    position = max(start, (await source.after([partition], since - BEFORE))[partition])
    end = (await source.ends([partition]))[partition]
    found: list[Recorded[StoryEvent]] = []
    await source.assign({partition: position})
    while source.position(partition) < end:
        records = (await source.read(records_max=BATCH_RECORDS, wait_s=0.5)).get(partition, ())
        found += [event for offset, value in records if matches(value) and (event := _decoded(partition, offset, value))]
    return found


def _decoded(partition: Partition, offset: int, value: bytes) -> Recorded[StoryEvent] | None:
    try:
        envelope = decode(value)
    except InvalidEvent:
        return None
    return Recorded(*partition, offset, envelope) if _is_of_a_story(envelope) else None


def _is_of_a_story(envelope: Envelope[Event]) -> TypeGuard[Envelope[StoryEvent]]:
    return isinstance(envelope.data, StoryEvent)


def in_causal_order(events: Sequence[Recorded[StoryEvent]]) -> list[Recorded[StoryEvent]]:
    """Return each event once, ordered by time, but never before its cause. Pure."""
    entries = [timeline.entry_of(recorded, "") for recorded in events]
    by_position = {(event.topic, event.partition, event.offset): event for event in events}
    return [by_position[entry.topic, entry.partition, entry.offset] for entry in timeline.causal(entries)]


class StoryStep(NamedTuple):
    """One step of the story: a sentence and its event, with the event's position on the log."""

    time: datetime
    at: str
    sentence: str
    reason: str | None
    id: str
    type: str
    cause: str | None


def steps_of(events: Sequence[Recorded[StoryEvent]]) -> list[StoryStep]:
    """Return the steps of a job's story. `events` are in causal order; renewals of one lease make one step. Pure."""
    story: list[StoryStep] = []
    renewals: dict[int, int] = {}
    renewal_steps: dict[int, int] = {}
    for recorded in events:
        event, envelope = recorded.envelope.data, recorded.envelope
        sentence = say(event)
        reason = getattr(event, "reason", None) or None
        position = f"{recorded.topic}/{recorded.partition}/{recorded.offset}"
        step = StoryStep(envelope.time, position, sentence, reason, envelope.id, event.TYPE, envelope.causationid)
        if isinstance(event, LeaseRenewed):
            renewals[event.epoch] = renewals.get(event.epoch, 0) + 1
            if (count := renewals[event.epoch]) > 1:
                story[renewal_steps[event.epoch]] = step._replace(sentence=f"{sentence[:-1]}, {count} times until then.")
                continue
            renewal_steps[event.epoch] = len(story)
        story.append(step)
    return story


REFUSALS: Mapping[str, str] = {
    "unknown_job": "there is no such job",
    "stale_epoch": "its claim is fenced: a newer one was given since",
    "not_holder": "another worker holds the claim",
    "already_ended": "the job has ended",
    "not_running": "nobody is at it any more",
    "not_ended": "the job has not ended",
    "unknown_pool": "there is no such pool",
    "too_large": "there is more to it than fits on the log",
}


def say(event: StoryEvent) -> str:
    """Return a sentence that explains an event about a job. Pure."""
    if isinstance(event, JobStep):
        return _step(event)
    match event:
        case ClaimWithdrawn():
            return f"Worker {_short(event.worker_id)} stops, and asks for work no more."
        case JobSubmitted() | ClaimRequested() | CancelRequested() | RetryRequested() | RequeueRequested():
            return _request(event)
        case LeaseRenewed() | LeaseReleased() | ResultReported():
            return _report(event)
        case ResultRefused():
            why = REFUSALS[event.reason]
            return f"What worker {_short(event.worker_id)} said under epoch {event.epoch} was refused: {why}."
        case RequestRefused():
            return f"The request was refused: {REFUSALS[event.reason]}."
        case FailureResolved():
            return f"A person resolved the failure of epoch {event.failure_id.rpartition(':')[2]}{_because(event.reason)}."
        case FailureRerun():
            how = f"it failed with {event.failure.code}" if event.failure else "it succeeded"
            verdict = event.verdict.replace("_", " ")
            return f"The attempt of epoch {event.failure_id.rpartition(':')[2]} was run again on {event.worker}: {how}; {verdict}."
        case PauseRequested() | ResumeRequested() | DispatchPaused() | DispatchResumed() | ClaimRefused():
            return _unnamed(event, event.reason)
        case ClockTicked():
            return _unnamed(event, None)
        case PartReported():
            return f"Worker {_short(event.worker_id)} reported part {event.part + 1} of a result of epoch {event.epoch}."
        case PartAccepted():
            return f"The dispatcher accepted part {event.part + 1} of a result of epoch {event.epoch}."
        case _:
            assert_never(event)


def _unnamed(event: Event, reason: str | None) -> str:
    """Return a sentence about an event without a job."""
    return f"{event.TYPE.removeprefix('kinolog.')}{_because(reason)}."


def _request(event: JobSubmitted | ClaimRequested | CancelRequested | RetryRequested | RequeueRequested) -> str:
    match event:
        case JobSubmitted():
            needs = f", needs {event.requirements.encoder}" if event.requirements.encoder else ""
            return f"Planning asked for {event.spec.words()} of video {event.video_id} (priority {event.priority}{needs})."
        case ClaimRequested():
            return f"Worker {_short(event.worker_id)} asked for work, and would wait until {event.deadline:%H:%M:%S}."
        case CancelRequested():
            return f"Somebody asked that it is cancelled{_because(event.reason)}."
        case RetryRequested():
            return f"Somebody asked that it is tried again{_because(event.reason)}."
        case RequeueRequested():
            return f"Somebody asked that it goes back into the queue{_because(event.reason)}."


def _report(event: LeaseRenewed | LeaseReleased | ResultReported) -> str:
    who = f"Worker {_short(event.worker_id)}"
    match event:
        case LeaseRenewed():
            return f"{who} renewed its lease of epoch {event.epoch}."
        case LeaseReleased():
            return f"{who} handed epoch {event.epoch} back{_because(event.reason)}."
        case ResultReported(failure=failure) if failure is not None:
            return f"{who} reported that epoch {event.epoch} failed: {_failure(failure)}"
        case ResultReported():
            return f"{who} reported a result of epoch {event.epoch}."


def _step(event: JobStep) -> str:
    match event:
        case JobQueued(reason="retried" | "requeued"):
            return "The dispatcher queued it again; attempts count from zero."
        case JobQueued():
            return f"The dispatcher queued it: {event.spec.words()}, priority {event.priority}."
        case JobClaimed():
            terms = f"epoch {event.epoch}, attempt {event.attempt}, lease until {event.lease_expires_at:%H:%M:%S}"
            return f"The dispatcher gave it to worker {_short(event.worker_id)}: {terms}."
        case JobAttemptFailed():
            return f"Attempt {event.attempt} failed: {_failure(event.failure)} The next one comes after {event.retry_at:%H:%M:%S}."
        case LeaseExpired():
            then = f"the next comes after {event.retry_at:%H:%M:%S}" if event.retry_at else "it was the last"
            return f"Worker {_short(event.worker_id)} was not heard of in time: that cost attempt {event.attempt}; {then}."
        case JobReleased():
            return f"It waits again, and the attempt does not count: epoch {event.epoch} was handed back{_because(event.reason)}."
        case JobCompleted():
            made = made_by(event.result)
            what = f", {made.segments} segments, {made.size_bytes:,} bytes" if made.segments else ""
            return (
                f"The dispatcher accepted the result of epoch {event.epoch}, attempt {event.attempt}{what}. The job is completed."
            )
        case JobFailed():
            return f"The job has failed for good at attempt {event.attempt}: {_failure(event.failure)}"
        case JobCancelled():
            return f"The job is cancelled{_because(event.reason)}."
        case _:
            assert_never(event)


def _failure(failure: Failure) -> str:
    sentence = failure.message if failure.message.endswith((".", "!", "?")) else f"{failure.message}."
    return f"{failure.stage}/{failure.category} ({failure.code}): {sentence}"


def _because(reason: object) -> str:
    return f": {reason}" if reason else ""


def _short(worker_id: str) -> str:
    """Return the end of a worker's id. Its beginning is a time that many workers share."""
    return worker_id[-8:]

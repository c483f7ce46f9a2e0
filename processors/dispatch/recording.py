"""Recordings for what-if runs: requests, the times of their decisions, and what they were reactions to. Pure.

A `Recording` learns reactions from the topics job-requests and jobs: the time from a claim to its renewals, its result and the
slot's next claim, the time from a refusal to the next claim, and the submissions that follow completed jobs.

No log has the exact time of a decision without an answer. It is estimated from the requests around it.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

from events.envelope import Envelope, Event, Recorded
from events.jobs import (
    AttemptEnd,
    ClaimRefused,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
    JobClaimed,
    JobCompleted,
    JobFact,
    JobRequest,
    JobStep,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    PartAccepted,
    PartReported,
    PoolFact,
    Refusal,
    ResultReported,
)
from events.kinds import Capabilities
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.decide import decide, remember
from processors.dispatch.state import Decided, Policy, State, evolve, next_wakeup, note_gpu, note_process, requeue

Cause = tuple[Any, ...]
"""The cause of a request: ("claim", job, epoch), ("refusal", slot, n), or () for none."""
HolderRequest = LeaseRenewed | PartReported | ResultReported | LeaseReleased
"""Requests of a worker about the job that it holds."""
Slot = tuple[str, int]
"""A worker, and an index into its `slots`. Slots of equal capabilities are one."""


class Reaction(NamedTuple):
    """A request that came `delay` after its cause and was decided at `time`; `number` is its index among all requests."""

    delay: timedelta
    time: datetime
    number: int
    request: Envelope[JobRequest]


class Worker(NamedTuple):
    """A worker of the record, from its first claim on. `slots` are the different capabilities that it claims with."""

    worker_id: str
    slots: tuple[Capabilities, ...]
    since: datetime


@dataclass
class Recording:
    """One partition: the requests from `since` on, the times of their decisions, and the reactions.

    `before` are the earlier facts. The first state is made of `older`, those whose requests the log has lost, and of
    `asked_before`, the requests that it still has with their facts. `slots` has the slot of each claim.
    """

    before: list[Envelope[Decided]]
    older: list[Envelope[Decided]]
    asked_before: list[tuple[datetime, Envelope[JobRequest], list[Envelope[Decided]]]]
    requests: list[tuple[datetime, Envelope[JobRequest]]]
    answers: list[list[Envelope[Decided]]]
    reactions: dict[Cause, list[Reaction]] = field(default_factory=lambda: defaultdict(list))
    awaited: dict[str, list[tuple[frozenset[str], Reaction]]] = field(default_factory=lambda: defaultdict(list))
    workers: dict[str, Worker] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    caused: dict[Cause, datetime] = field(default_factory=dict)
    ticks: dict[datetime, timedelta] = field(default_factory=dict)
    closed: set[Cause] = field(default_factory=set)

    def first_state(self, policy: Policy) -> State:
        """Return the state at the beginning of the record: the recorded facts, and what is no fact, such as waiting claims.

        Nothing is decided again: whatever a restarted dispatcher had forgotten, its facts are the record.
        """
        state = State(policy=policy)
        for fact in self.older:
            evolve(state, fact)
        for time, request, answer in self.asked_before:
            if isinstance(request.data, ClaimRequested) and request.id not in state.answered:
                note_process(state, request.data.worker_id, request.data.process_id)
                note_gpu(state, request.data, time)
            if isinstance(request.data, ClockTicked):
                _pass_time(state, time)
            for fact in answer:
                evolve(state, fact)
            if not answer:
                remember(state, request, time)
        return state

    @property
    def facts(self) -> list[Envelope[Decided]]:
        """The recorded facts."""
        return [fact for answer in self.answers for fact in answer]

    @property
    def end(self) -> datetime:
        """Time of the last decision."""
        return self.requests[-1][0]


def record(
    requests: Sequence[Recorded[JobRequest]], facts: Sequence[Recorded[JobFact]], since: datetime | None, policy: Policy
) -> Recording:
    """Return the recording of a partition from all its requests and facts, in order."""
    asked = [request.envelope for request in requests]
    answers = _answers(asked, [fact.envelope for fact in facts])
    times = _decided_at(asked, answers)
    begin = next((n for n, time in enumerate(times) if since is None or time >= since), len(times))
    inside = [fact for answer in answers[begin:] for fact in answer]
    known = {fact.id for fact in inside}
    before: list[Envelope[Decided]] = [fact.envelope for fact in facts if fact.envelope.id not in known]
    ids = {request.id for request in asked}
    older = [fact for fact in before if fact.causationid not in ids]
    asked_before = list(zip(times, asked, answers, strict=True))[:begin]
    asked_since = list(zip(times, asked, strict=True))[begin:]
    recording = Recording(before, older, asked_before, asked_since, answers[begin:])
    _note_reactions(recording)
    _note_ticks(recording, policy)
    return recording


def _pass_time(state: State, now: datetime) -> None:
    """Change a state as a tick does without a fact: waits of jobs, and for GPU workers, are over."""
    leases = []
    while (moment := next_wakeup(state)) is not None and moment <= now:
        alarm = _, _, due, of = heapq.heappop(state.alarms)
        if due == "gpu":
            del state.gpus[of]
        elif due == "job" and state.jobs[of].status == "retrying":
            requeue(state, of)
        elif due == "job":
            leases.append(alarm)
    for alarm in leases:
        heapq.heappush(state.alarms, alarm)


def _answers(requests: Sequence[Envelope[Event]], facts: Sequence[Envelope[Decided]]) -> list[list[Envelope[Decided]]]:
    """Return the facts of each request, in the order of decisions; of a repeated request, either copy may have them."""
    asked = {request.id for request in requests}
    left = deque(fact for fact in facts if fact.causationid in asked)
    answers: list[list[Envelope[Decided]]] = []
    for request in requests:
        answer: list[Envelope[Decided]] = []
        while left and left[0].causationid == request.id:
            answer.append(left.popleft())
        answers.append(answer)
    return answers


def _decided_at(requests: Sequence[Envelope[Event]], answers: Sequence[Sequence[Envelope[Event]]]) -> list[datetime]:
    """Return the time of each decision: that of its facts; without facts, the request's time plus its sender's least delay.

    Senders' clocks may be wrong: the known times of decisions around a request bound its estimate.
    """
    lags: dict[str, timedelta] = {}
    following: datetime | None = None
    for request, answer in zip(reversed(requests), reversed(answers), strict=True):
        following = answer[0].time if answer else following
        if following is not None:
            sender = _sender(request)
            lags[sender] = min(following - request.time, lags.get(sender, timedelta.max))
    times: list[datetime] = []
    for request, answer in zip(requests, answers, strict=True):
        guess = answer[0].time if answer else request.time + lags.get(_sender(request), timedelta())
        times.append(max(guess, times[-1]) if times else guess)
    return times


def _sender(request: Envelope[Event]) -> str:
    """Return the sender whose clock a request has."""
    event = request.data
    return event.worker_id if isinstance(event, ClaimRequested | ClaimWithdrawn | HolderRequest) else request.source


def _note_reactions(recording: Recording) -> None:
    answered: dict[Slot, Cause] = {}
    holders: dict[Cause, Slot] = {}
    completed: dict[str, dict[str, datetime]] = defaultdict(dict)
    refusals: dict[Slot, int] = defaultdict(int)
    done = {fact.id for fact in (*recording.before, *recording.facts) if isinstance(fact.data, JobCompleted)}
    waiting = {request.id: request.data for _, request, _ in recording.asked_before if isinstance(request.data, ClaimRequested)}
    for number, (time, request) in enumerate(recording.requests):
        event = request.data
        cause: Cause = ()
        if isinstance(event, ClaimRequested):
            cause = answered.get(_note_slot(recording, request.id, event, time), ())
        elif isinstance(event, HolderRequest):
            cause = ("claim", event.job_id, event.epoch)
            if cause in holders and isinstance(event, ResultReported | LeaseReleased):
                answered[holders[cause]] = cause
        if cause not in recording.caused:
            cause = ()
        if isinstance(event, JobSubmitted) and request.causationid in done and (video := completed[event.video_id]):
            reaction = Reaction(time - max(video.values()), time, number, request)
            recording.awaited[event.video_id].append((frozenset(video), reaction))
        else:
            delay = time - recording.caused[cause] if cause else timedelta()
            recording.reactions[cause].append(Reaction(delay, time, number, request))
        for fact in recording.answers[number]:
            match heard(fact):
                case JobClaimed() | ClaimRefused() as answer:
                    if answer.claim_id in waiting:
                        _note_slot(recording, answer.claim_id, waiting[answer.claim_id], time)
                    if (slot := recording.slots.get(answer.claim_id)) is None:
                        continue  # the log has lost the claim
                    if isinstance(answer, JobClaimed):
                        answered[slot] = ("claim", answer.job_id, answer.epoch)
                        holders[answered[slot]] = slot
                    else:
                        refusals[slot] += 1
                        answered[slot] = ("refusal", slot, refusals[slot])
                    recording.caused[answered[slot]] = time
                case JobCompleted() as ended:
                    completed[ended.video_id][ended.job_id] = time
                case None:
                    pass
    recording.closed = _closed(recording.facts)


def _note_slot(recording: Recording, claim_id: str, claim: ClaimRequested, time: datetime) -> Slot:
    """Note the slot of a claim, and return it."""
    worker = recording.workers.get(claim.worker_id, Worker(claim.worker_id, (), time))
    if claim.capabilities not in worker.slots:
        worker = worker._replace(slots=(*worker.slots, claim.capabilities))
    recording.workers[claim.worker_id] = worker
    slot = recording.slots[claim_id] = (claim.worker_id, worker.slots.index(claim.capabilities))
    return slot


def heard(fact: Envelope[Decided]) -> JobClaimed | ClaimRefused | JobCompleted | None:
    """Return the cause that a fact is to workers and planning; None when nobody reacts to it."""
    event = fact.data
    if isinstance(event, JobClaimed | ClaimRefused | JobCompleted):
        return event
    if isinstance(event, (JobStep, PartAccepted, Refusal, PoolFact, WorkerQuarantined, WorkerCleared)):
        return None
    assert_never(event)


def _closed(facts: Iterable[Envelope[Decided]]) -> set[Cause]:
    """Return the claims that ended before the end of the record: by a result, an expiry or a person."""
    held: dict[str, Cause] = {}
    closed: set[Cause] = set()
    for fact in facts:
        if isinstance(fact.data, JobClaimed):
            held[fact.data.job_id] = ("claim", fact.data.job_id, fact.data.epoch)
        elif isinstance(fact.data, AttemptEnd):
            closed.add(held.pop(fact.data.job_id, ()))
    return closed


def _note_ticks(recording: Recording, policy: Policy) -> None:
    """Learn the delays of ticks behind their due times, by deciding everything again as recorded."""
    state = recording.first_state(policy)
    pending: set[datetime] = set()
    for time, request in recording.requests:
        due = next_wakeup(state)
        if due is not None:
            pending.add(due)
        if isinstance(request.data, ClockTicked) and request.id not in state.answered:
            met = {moment for moment in pending if moment <= time}
            recording.ticks.update((moment, time - moment) for moment in met - recording.ticks.keys())
            pending -= met
        decide(state, request, time, replayed=True)


def attempts_of(recording: Recording) -> dict[str, list[list[Reaction]]]:
    """Return the scripts of reported attempts: by job, by kind of job, and all under ""."""
    found: dict[str, list[list[Reaction]]] = defaultdict(list)
    for fact in recording.facts:
        if isinstance(fact.data, JobClaimed):
            script = recording.reactions.get(("claim", fact.data.job_id, fact.data.epoch), [])
            if any(isinstance(reaction.request.data, ResultReported) for reaction in script):
                for name in (fact.data.job_id, fact.data.spec.kind, ""):
                    found[name].append(script)
    return found

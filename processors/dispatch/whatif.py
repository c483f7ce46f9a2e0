"""What-if runs: recorded requests, durations and failures, decided by another policy in virtual time, with the real decider.

A `Recording` learns reactions from the topics job-requests and jobs: the time from a claim to its renewals, its result and the
worker's next claim, the time from a refusal to the next claim, and the submissions that follow completed jobs. `Replay` applies
these reactions to the decisions of another policy. `measure` sums up the new decisions.

Assumptions: the n-th attempt of a job takes as long and ends as the n-th recorded one, on any worker. A worker that went silent
goes silent with the same attempt. An attempt without a record is like another of its job, or of its kind, chosen by `seed`.
Workers join, people act and the clock ticks at the recorded times; only things that were not due in the record get new ticks.

Under the recorded policy the same claims come out in the same order, with two exceptions that no log has: the state that a
restarted dispatcher forgot, and the exact time of a decision without an answer. The latter is estimated from the requests around
it: where a late tick made jobs ready, or a lease was renewed at its last moment, another job may be given first.
"""

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, NamedTuple, assert_never
from uuid import UUID, uuid5

from events.envelope import Envelope, Event, Recorded
from events.errors import InvalidRequest
from events.jobs import (
    AttemptEnd,
    ClaimRefused,
    ClaimRequested,
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
    PoolFact,
    Refusal,
    ResultReported,
)
from events.kinds import Capabilities, EncodeSpec
from events.media import Rung
from events.workers import WorkerCleared, WorkerQuarantined
from processors.dispatch.decide import SOURCE, decide
from processors.dispatch.state import Decided, Policy, State, evolve, next_wakeup

Cause = tuple[Any, ...]
"""The cause of a request: ("claim", job, epoch), ("refusal", worker, n), ("done", video), or () for none."""
SILENT = timedelta(minutes=2)
"""Maximum silence before the end of the record of a worker that is not gone."""
RENEWAL = timedelta(seconds=15)
LONGEST = 20
"""Maximum length of a replay, in lengths of the record, plus an hour."""


class Reaction(NamedTuple):
    """A request that came `delay` after its cause; `number` is its index among all requests of the record."""

    delay: timedelta
    number: int
    request: Envelope[JobRequest]


class Worker(NamedTuple):
    """A worker of the record, from its first claim on."""

    worker_id: str
    capabilities: Capabilities
    since: datetime


@dataclass(frozen=True)
class Alternative:
    """The functions of a policy file; each gets the recorded value."""

    policy: Callable[[Policy], Policy] = lambda recorded: recorded
    workers: Callable[[Sequence[Worker]], Sequence[Worker]] = lambda recorded: recorded
    ladder: Callable[[EncodeSpec], Sequence[Rung]] = lambda spec: spec.plan.rungs
    seconds: Callable[[JobClaimed, float], float] = lambda claimed, recorded: recorded


@dataclass
class Recording:
    """One partition: the requests from `since` on, the times of their decisions, and the reactions.

    `before` are the earlier facts. The first state is made of `older`, those whose requests the log has lost, and of
    `asked_before`, the requests that it still has.
    """

    before: list[Envelope[Decided]]
    older: list[Envelope[Decided]]
    asked_before: list[tuple[datetime, Envelope[JobRequest]]]
    requests: list[tuple[datetime, Envelope[JobRequest]]]
    answers: list[list[Envelope[Decided]]]
    reactions: dict[Cause, list[Reaction]] = field(default_factory=lambda: defaultdict(list))
    awaited: dict[str, list[tuple[frozenset[str], Reaction]]] = field(default_factory=lambda: defaultdict(list))
    workers: dict[str, Worker] = field(default_factory=dict)
    ticks: dict[datetime, timedelta] = field(default_factory=dict)
    closed: set[Cause] = field(default_factory=set)

    def first_state(self, policy: Policy) -> State:
        """Return the state at the beginning of the record, with the waiting claims and renewed leases, which are no facts."""
        state = State(policy=policy)
        for fact in self.older:
            evolve(state, fact)
        for time, request in self.asked_before:
            decide(state, request, time, replayed=True)
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
    decided = list(zip(times, asked, strict=True))
    older = [fact for fact in before if fact.causationid not in ids]
    recording = Recording(before, older, decided[:begin], decided[begin:], answers[begin:])
    _note_reactions(recording)
    _note_ticks(recording, policy)
    return recording


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
    return event.worker_id if isinstance(event, ClaimRequested | LeaseRenewed | ResultReported | LeaseReleased) else request.source


def _note_reactions(recording: Recording) -> None:
    answered: dict[str, tuple[Cause, datetime]] = {}
    caused: dict[Cause, datetime] = {}
    completed: dict[str, dict[str, datetime]] = defaultdict(dict)
    refusals: dict[str, int] = defaultdict(int)
    done = {fact.id for fact in (*recording.before, *recording.facts) if isinstance(fact.data, JobCompleted)}
    for number, (time, request) in enumerate(recording.requests):
        event = request.data
        cause: Cause = ()
        if isinstance(event, ClaimRequested):
            recording.workers.setdefault(event.worker_id, Worker(event.worker_id, event.capabilities, time))
            cause = answered.get(event.worker_id, ((), time))[0]
        elif isinstance(event, LeaseRenewed | ResultReported | LeaseReleased):
            cause = ("claim", event.job_id, event.epoch)
        if cause not in caused:
            cause = ()
        if isinstance(event, JobSubmitted) and request.causationid in done and (video := completed[event.video_id]):
            reaction = Reaction(time - max(video.values()), number, request)
            recording.awaited[event.video_id].append((frozenset(video), reaction))
        else:
            delay = time - caused[cause] if cause else timedelta()
            recording.reactions[cause].append(Reaction(delay, number, request))
        for fact in recording.answers[number]:
            match _heard(fact):
                case JobClaimed() as claimed:
                    answer: Cause = ("claim", claimed.job_id, claimed.epoch)
                    answered[claimed.worker_id], caused[answer] = (answer, time), time
                case ClaimRefused() as refused:
                    refusals[refused.worker_id] += 1
                    answer = ("refusal", refused.worker_id, refusals[refused.worker_id])
                    answered[refused.worker_id], caused[answer] = (answer, time), time
                case JobCompleted() as ended:
                    completed[ended.video_id][ended.job_id] = time
                case None:
                    pass
    recording.closed = _closed(recording.facts)


def _heard(fact: Envelope[Decided]) -> JobClaimed | ClaimRefused | JobCompleted | None:
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


class Replay:
    """One partition, decided again. `run` returns the facts, the earlier ones first."""

    def __init__(self, recording: Recording, policy: Policy, alternative: Alternative, seed: int) -> None:
        self._recording = recording
        self._alternative = alternative
        self._rng = random.Random(seed)
        self._state = recording.first_state(policy)
        self._state.policy = alternative.policy(policy)
        self._facts = list(recording.before)
        self._agenda: list[tuple[datetime, int, Envelope[JobRequest] | datetime]] = []
        self._later = count(len(recording.requests))
        self._copies = count()
        self._refusals: dict[str, int] = defaultdict(int)
        self._done: dict[str, set[str]] = defaultdict(set)
        self._awaited = {video: list(waiting) for video, waiting in recording.awaited.items()}
        self._planned: set[datetime] = set()
        self._scale: dict[str, float] = {}
        self._workers = {worker.worker_id: worker for worker in alternative.workers(list(recording.workers.values()))}
        if recording.workers and not self._workers:
            raise InvalidRequest("the policy's workers() leaves nobody to do the work; it wants at least one")
        self._attempts = _attempts(recording)
        self._pauses = [one.delay for cause, found in recording.reactions.items() if cause[:1] == ("refusal",) for one in found]
        self._question = next((r for r in recording.requests if isinstance(r[1].data, ClaimRequested)), None)
        lags = sorted(recording.ticks.values())
        self._lag = lags[len(lags) // 2] if lags else timedelta()

    def run(self) -> list[Envelope[Decided]]:
        """Decide until every job has ended, or the maximum length is reached."""
        recording = self._recording
        for reaction in recording.reactions[()]:
            event = reaction.request.data
            if not isinstance(event, ClaimRequested) or event.worker_id in self._workers:
                self._plan(recording.requests[reaction.number][0], reaction.number, reaction.request)
        for worker in self._workers.values():
            if worker.worker_id not in recording.workers:
                self._ask(worker, worker.since)
        begin = recording.requests[0][0] if recording.requests else None
        waiting_for_jobs = True
        if begin is not None:
            self._watch(begin)
        while self._agenda and begin is not None and waiting_for_jobs:
            now, number, what = heapq.heappop(self._agenda)
            if now - begin > LONGEST * (recording.end - begin) + timedelta(hours=1):
                break
            self._happen(now, number, what)
            open_jobs = len(self._state.ended) < len(self._state.jobs)
            waiting_for_jobs = now <= recording.end or open_jobs or self._submissions_come()
        return self._facts

    def _submissions_come(self) -> bool:
        return any(isinstance(what, Envelope) and isinstance(what.data, JobSubmitted) for _, _, what in self._agenda)

    def _plan(self, time: datetime, number: int, what: Envelope[JobRequest] | datetime) -> None:
        if isinstance(what, Envelope) and isinstance(what.data, JobSubmitted) and isinstance(what.data.spec, EncodeSpec):
            what = what._replace(data=self._by_ladder(what.data, what.data.spec))
        heapq.heappush(self._agenda, (time, number, what))

    def _by_ladder(self, submitted: JobSubmitted, spec: EncodeSpec) -> JobSubmitted:
        """Return a submission with the rungs of the alternative; its work takes longer or shorter by their pixels."""
        rungs = tuple(self._alternative.ladder(spec))
        if rungs == spec.plan.rungs:
            return submitted
        if not rungs:
            raise InvalidRequest(f"ladder() leaves job {submitted.job_id} no rung to encode")
        self._scale[submitted.job_id] = _pixels(rungs) / _pixels(spec.plan.rungs)
        wanted = submitted.requirements
        if wanted.height is not None:
            wanted = wanted.model_copy(update={"height": max(rung.height for rung in rungs)})
        other = spec.model_copy(update={"plan": spec.plan.model_copy(update={"rungs": rungs})})
        return submitted.model_copy(update={"spec": other, "requirements": wanted})

    def _happen(self, now: datetime, number: int, what: Envelope[JobRequest] | datetime) -> None:
        if isinstance(what, datetime):
            self._planned.discard(what)
            if next_wakeup(self._state) != what:
                return self._watch(now)
            id_, pool = self._new_id(), self._recording.requests[0][1].subject
            ticked = ClockTicked(pool=pool, now=now)
            request: Envelope[JobRequest] = Envelope(id_, SOURCE, pool, now, ticked, id_)
        else:
            request = what
        for fact in decide(self._state, request, now, replayed=True):
            self._facts.append(fact)
            match _heard(fact):
                case JobClaimed() as claimed:
                    self._work(claimed, now)
                case ClaimRefused() as refused:
                    self._ask_again(refused.worker_id, now)
                case JobCompleted() as completed:
                    self._complete(completed, now)
                case None:
                    pass
        return self._watch(now)

    # --- time -------------------------------------------------------------------------------------------------------

    def _watch(self, now: datetime) -> None:
        """Plan a tick for the next due time, with the usual delay. Due times of the record have their recorded ticks."""
        due = next_wakeup(self._state)
        if due is not None and due not in self._planned:
            self._planned.add(due)
            late = self._recording.ticks.get(due, self._lag)
            self._plan(max(now, due + late), next(self._later), due)

    # --- reactions --------------------------------------------------------------------------------------------------

    def _work(self, claimed: JobClaimed, now: datetime) -> None:
        """Schedule a worker's requests after a claim as recorded, for it or for one like it."""
        cause: Cause = ("claim", claimed.job_id, claimed.epoch)
        script = self._recording.reactions.get(cause, [])
        ended = any(isinstance(reaction.request.data, ResultReported | LeaseReleased) for reaction in script)
        silent = not ended and cause in self._recording.closed
        fresh = not ended and not silent
        if fresh:  # it has no record, or had not ended at the end of the record
            script = self._like(claimed)
        script = self._stretched(claimed, script)
        for reaction in script:
            self._react(reaction, claimed.worker_id, claimed.epoch, claimed.job_id, now, fresh=fresh)
        asks = any(isinstance(reaction.request.data, ClaimRequested) for reaction in script)
        if not asks and not silent and script:
            over = now + max(reaction.delay for reaction in script)
            if self._recording.end - over < SILENT:
                self._ask(self._workers.get(claimed.worker_id), max(over, self._recording.end))

    def _like(self, claimed: JobClaimed) -> list[Reaction]:
        """Return the script of another attempt of the job, else of its kind."""
        alike = self._attempts.get(claimed.job_id, [])[-1:] or self._attempts.get(claimed.spec.kind) or self._attempts.get("", [])
        return self._rng.choice(alike) if alike else []

    def _stretched(self, claimed: JobClaimed, script: list[Reaction]) -> list[Reaction]:
        """Return the script with the alternative's duration, and the renewals that it needs."""
        results = [reaction for reaction in script if isinstance(reaction.request.data, ResultReported)]
        if not results:
            return script
        length = results[0].delay
        seconds = self._alternative.seconds(claimed, length.total_seconds()) * self._scale.get(claimed.job_id, 1)
        if seconds == length.total_seconds():
            return script
        more = timedelta(seconds=seconds) - length
        renewals = [reaction for reaction in script if isinstance(reaction.request.data, LeaseRenewed)]
        rest = [reaction._replace(delay=reaction.delay + more) for reaction in script if reaction not in renewals]
        model = LeaseRenewed(job_id=claimed.job_id, pool=claimed.pool, worker_id=claimed.worker_id, epoch=claimed.epoch)
        moments = [RENEWAL * n for n in range(1, int(seconds / RENEWAL.total_seconds()) + 1)]
        renewed = [results[0].request._replace(id=self._new_id(), data=model) for _ in moments]
        return [*rest, *(Reaction(at, next(self._later), one) for at, one in zip(moments, renewed, strict=True))]

    def _react(self, reaction: Reaction, worker_id: str, epoch: int, job_id: str, now: datetime, *, fresh: bool) -> None:
        """Schedule a recorded request as this worker's, for this claim."""
        request, event, time = reaction.request, reaction.request.data, now + max(timedelta(), reaction.delay)
        if isinstance(event, ClaimRequested):
            if worker_id not in self._workers:
                return
            decided = (
                self._recording.requests[reaction.number][0] if reaction.number < len(self._recording.requests) else request.time
            )
            can = self._workers[worker_id].capabilities
            event = event.model_copy(
                update={
                    "worker_id": worker_id,
                    "capabilities": can,
                    "deadline": time + (event.deadline - decided),
                    "process_id": event.process_id if worker_id == event.worker_id else None,
                }
            )
        else:
            event = event.model_copy(update={"worker_id": worker_id, "epoch": epoch, "job_id": job_id})
        id_ = self._new_id() if fresh else request.id
        self._plan(time, reaction.number if not fresh else next(self._later), request._replace(id=id_, data=event))

    def _ask_again(self, worker_id: str, now: datetime) -> None:
        """Schedule a refused worker's next claim as recorded, or as usual."""
        self._refusals[worker_id] += 1
        recorded = self._recording.reactions
        script = recorded.get(("refusal", worker_id, self._refusals[worker_id]))
        if script:
            for reaction in script:
                self._react(reaction, worker_id, 0, "", now, fresh=False)
            return
        pause = self._rng.choice(self._pauses) if self._pauses else timedelta(seconds=1)
        known = worker_id in self._recording.workers and self._refusals[worker_id] <= len(self._recording.requests)
        self._ask(self._workers.get(worker_id), max(now + pause, self._recording.end) if known else now + pause)

    def _ask(self, worker: Worker | None, time: datetime) -> None:
        """Schedule a claim that the record does not have."""
        if worker is None or self._question is None:
            return
        at, model = self._question
        assert isinstance(model.data, ClaimRequested)
        deadline = time + (model.data.deadline - at)
        event = model.data.model_copy(
            update={
                "worker_id": worker.worker_id,
                "capabilities": worker.capabilities,
                "deadline": deadline,
                "process_id": None,
            }
        )
        self._plan(time, next(self._later), model._replace(id=self._new_id(), time=time, data=event))

    def _complete(self, completed: JobCompleted, now: datetime) -> None:
        """Schedule the submissions that followed these completed jobs of the video."""
        done = self._done[completed.video_id]
        done.add(completed.job_id)
        left = []
        for needed, reaction in self._awaited.get(completed.video_id, ()):
            if needed <= done:
                self._plan(now + max(timedelta(), reaction.delay), reaction.number, reaction.request)
            else:
                left.append((needed, reaction))
        self._awaited[completed.video_id] = left

    def _new_id(self) -> str:
        return str(uuid5(UUID(int=0), f"whatif/{next(self._copies)}"))


def _pixels(rungs: Iterable[Rung]) -> int:
    return sum(rung.width * rung.height for rung in rungs)


def _attempts(recording: Recording) -> dict[str, list[list[Reaction]]]:
    """Return the scripts of reported attempts: by job, by kind of job, and all under ""."""
    found: dict[str, list[list[Reaction]]] = defaultdict(list)
    for fact in recording.facts:
        if isinstance(fact.data, JobClaimed):
            script = recording.reactions.get(("claim", fact.data.job_id, fact.data.epoch), [])
            if any(isinstance(reaction.request.data, ResultReported) for reaction in script):
                for name in (fact.data.job_id, fact.data.spec.kind, ""):
                    found[name].append(script)
    return found

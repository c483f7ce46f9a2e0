"""What-if runs: recorded requests, durations and failures, decided by another policy in virtual time, with the real decider.

`Replay` applies the reactions of a `Recording` to the decisions of another policy. `measure` sums up the new decisions.

Assumptions: the n-th attempt of a job takes as long and ends as the n-th recorded one, on any worker. A worker that went silent
goes silent with the same attempt. An attempt without a record is like another of its job, or of its kind, chosen by `seed`.
Workers join, people act and the clock ticks at the recorded times; only things that were not due in the record get new ticks.

Under the recorded policy the same claims come out in the same order, with two exceptions that no log has: the state that a
restarted dispatcher forgot, and the exact time of a decision without an answer: where a late tick made jobs ready, or a lease was
renewed at its last moment, another job may be given first.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID, uuid5

from events.envelope import Envelope
from events.errors import InvalidRequest
from events.jobs import (
    ClaimRefused,
    ClaimRequested,
    ClockTicked,
    JobClaimed,
    JobCompleted,
    JobRequest,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    ResultReported,
)
from events.kinds import EncodeSpec
from events.media import Rung
from processors.dispatch.decide import SOURCE, decide
from processors.dispatch.recording import Cause, Reaction, Recording, Slot, Worker, attempts_of, heard
from processors.dispatch.state import Decided, Policy, next_wakeup

__all__ = ["Alternative", "Replay", "Worker"]
SILENT = timedelta(minutes=2)
"""Maximum silence before the end of the record of a worker that is not gone."""
RENEWAL = timedelta(seconds=15)
LONGEST = 20
"""Maximum length of a replay, in lengths of the record, plus an hour."""


@dataclass(frozen=True)
class Alternative:
    """The functions of a policy file; each gets the recorded value."""

    policy: Callable[[Policy], Policy] = lambda recorded: recorded
    workers: Callable[[Sequence[Worker]], Sequence[Worker]] = lambda recorded: recorded
    ladder: Callable[[EncodeSpec], Sequence[Rung]] = lambda spec: spec.plan.rungs
    seconds: Callable[[JobClaimed, float], float] = lambda claimed, recorded: recorded


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
        self._refusals: dict[Slot, int] = defaultdict(int)
        self._slots = dict(recording.slots)
        self._done: dict[str, set[str]] = defaultdict(set)
        self._awaited = {video: list(waiting) for video, waiting in recording.awaited.items()}
        self._planned: set[datetime] = set()
        self._scale: dict[str, float] = {}
        self._workers = {worker.worker_id: worker for worker in alternative.workers(list(recording.workers.values()))}
        if recording.workers and not self._workers:
            raise InvalidRequest("the policy's workers() leaves nobody to do the work; it wants at least one")
        self._attempts = attempts_of(recording)
        self._pauses = [one.delay for cause, found in recording.reactions.items() if cause[:1] == ("refusal",) for one in found]
        claims = (one for found in recording.reactions.values() for one in found if isinstance(one.request.data, ClaimRequested))
        self._question = next(claims, None)
        lags = sorted(recording.ticks.values())
        self._lag = lags[len(lags) // 2] if lags else timedelta()

    def run(self) -> list[Envelope[Decided]]:
        """Decide until every job has ended, or the maximum length is reached."""
        recording = self._recording
        for reaction in recording.reactions[()]:
            if isinstance(reaction.request.data, ClaimRequested):
                self._claim_as(recording.slots[reaction.request.id], reaction.time, reaction)
            else:
                self._plan(reaction.time, reaction.number, reaction.request)
        for worker in self._workers.values():
            known = recording.workers.get(worker.worker_id)
            for number in range(len(known.slots) if known else 0, len(worker.slots)):
                self._ask((worker.worker_id, number), worker.since)
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
            match heard(fact):
                case JobClaimed() as claimed:
                    self._work(claimed, now)
                case ClaimRefused() as refused:
                    if refused.claim_id in self._slots:
                        self._ask_again(self._slots[refused.claim_id], now)
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
        if not ended and not silent:  # it has no record, or had not ended at the end of the record
            begun = self._recording.caused.get(cause, self._recording.end)
            script = [*script, *self._like(claimed, self._recording.end - begun)]
        script = self._stretched(claimed, script)
        for reaction in script:
            self._react(reaction, claimed, now)
        asks = any(isinstance(reaction.request.data, ClaimRequested) for reaction in script)
        if not asks and not silent and script and claimed.claim_id in self._slots:
            over = now + max(reaction.delay for reaction in script)
            if self._recording.end - over < SILENT:
                self._ask(self._slots[claimed.claim_id], max(over, self._recording.end))

    def _like(self, claimed: JobClaimed, so_far: timedelta) -> list[Reaction]:
        """Return a copy of what came after `so_far` of another attempt of the job, else of its kind; its end comes at any rate."""
        alike = self._attempts.get(claimed.job_id, [])[-1:] or self._attempts.get(claimed.spec.kind) or self._attempts.get("", [])
        return [
            self._copied(reaction, max(reaction.delay, so_far), reaction.request.data)
            for reaction in (self._rng.choice(alike) if alike else ())
            if reaction.delay > so_far or not isinstance(reaction.request.data, LeaseRenewed)
        ]

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
        return [*rest, *(self._copied(results[0], at, model) for at in moments)]

    def _react(self, reaction: Reaction, claimed: JobClaimed, now: datetime) -> None:
        """Schedule a recorded request as this worker's, for this claim."""
        request, event, time = reaction.request, reaction.request.data, now + reaction.delay
        if isinstance(event, ClaimRequested):
            if claimed.claim_id in self._slots:
                self._claim_as(self._slots[claimed.claim_id], time, reaction)
            return
        event = event.model_copy(update={"worker_id": claimed.worker_id, "epoch": claimed.epoch, "job_id": claimed.job_id})
        self._plan(time, reaction.number, request._replace(data=event))

    def _ask_again(self, slot: Slot, now: datetime) -> None:
        """Schedule a refused slot's next claim as recorded, or as usual."""
        self._refusals[slot] += 1
        script = self._recording.reactions.get(("refusal", slot, self._refusals[slot]))
        if script:
            for reaction in script:
                self._claim_as(slot, now + reaction.delay, reaction)
            return
        pause = self._rng.choice(self._pauses) if self._pauses else timedelta(seconds=1)
        known = slot[0] in self._recording.workers and self._refusals[slot] <= len(self._recording.requests)
        self._ask(slot, max(now + pause, self._recording.end) if known else now + pause)

    def _ask(self, slot: Slot, time: datetime) -> None:
        """Schedule a claim that the record does not have: the first one, as another's."""
        if self._question is not None:
            self._claim_as(slot, time, self._copied(self._question, timedelta(), self._question.request.data))

    def _claim_as(self, slot: Slot, time: datetime, reaction: Reaction) -> None:
        """Schedule a recorded claim as that of a slot, if the alternative has it."""
        worker_id, number = slot
        event = reaction.request.data
        assert isinstance(event, ClaimRequested)
        if worker_id not in self._workers or number >= len(self._workers[worker_id].slots):
            return
        changes = {
            "worker_id": worker_id,
            "capabilities": self._workers[worker_id].slots[number],
            "deadline": time + (event.deadline - reaction.time),
            "process_id": event.process_id if worker_id == event.worker_id else None,
        }
        self._slots[reaction.request.id] = slot
        self._plan(time, reaction.number, reaction.request._replace(data=event.model_copy(update=changes)))

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

    def _copied(self, reaction: Reaction, delay: timedelta, event: JobRequest) -> Reaction:
        """Return a reaction that the record does not have, after one that it has."""
        request = reaction.request._replace(id=self._new_id(), data=event)
        return reaction._replace(delay=delay, number=next(self._later), request=request)

    def _new_id(self) -> str:
        return str(uuid5(UUID(int=0), f"whatif/{next(self._copies)}"))


def _pixels(rungs: Iterable[Rung]) -> int:
    return sum(rung.width * rung.height for rung in rungs)

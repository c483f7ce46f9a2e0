"""Decisions of the dispatcher, read from the tail of `jobs` by one consumer for all waiting requests; and revoked keys.

Renewals make no facts, so a claim may be older than everything that this process has read: then the projection `jobs` has it.
"""

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never, cast

import structlog

from api.problems import Fenced
from events.envelope import Envelope, Event
from events.errors import NotFound
from events.jobs import (
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
    LeaseExpired,
    PartAccepted,
    RequestRefused,
    ResultRefused,
)
from events.kinds import JobKind
from events.pulse import Pulse
from events.topics import JOBS, WORKERS, Partition
from events.workers import (
    WorkerDeployed,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerKeyIssued,
    WorkerKeyRevoked,
    WorkerKeyRotated,
    WorkerLife,
    WorkerRequestRefused,
    WorkerRolledBack,
)
from projections.folding.log import Source, decoded
from projections.folding.positions import Positions
from projections.jobs import Job, Status

LOOKBACK = timedelta(seconds=90)
"""Maximum distance from the end of the log of answers to requests made during a restart of this process."""
HOLDINGS_MAX = 50_000
ANSWERS_MAX = 2_000
"""An answer contains the whole job; repeated requests come within seconds."""
BATCH = 2000
ENDS: dict[type[Event], str] = {
    LeaseExpired: "its lease expired",
    JobReleased: "it was taken back",
    JobAttemptFailed: "the attempt failed",
    JobFailed: "the job failed",
    JobCompleted: "the job is completed",
    JobCancelled: "the job was cancelled",
}
"""The facts that end a claim, and their explanation for its holder."""
AHEAD_S = 2.0
"""Maximum delay before a claim reported by another process of ours is read here."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Holding:
    """The present or last holder of a job. `ended_by` is the kind of the first fact read here that ended the claim."""

    job_id: str
    video_id: str
    pool: str
    kind: JobKind
    status: Status
    worker_id: str | None
    epoch: int
    attempt: int
    lease_expires_at: datetime | None = None
    ended_by: type[Event] | None = None


class Decisions:
    """The tail of `jobs`. `stored(job_id, positions)` asks the projection, once it has read up to these positions.

    `key_changed(key_id)` is called for keys that were revoked or replaced: the log has them even while the table of keys is
    away.
    """

    def __init__(
        self,
        source: Source,
        stored: Callable[[str, Positions], Awaitable[Job | None]],
        key_changed: Callable[[str], None] = lambda key_id: None,
    ) -> None:
        self._source = source
        self._stored = stored
        self._key_changed = key_changed
        self._holdings: OrderedDict[str, Holding] = OrderedDict()
        self._answers: OrderedDict[str, Envelope[Event]] = OrderedDict()
        self._waiting: defaultdict[tuple[str, int], list[asyncio.Future[Envelope[Event]]]] = defaultdict(list)
        self._seen: dict[Partition, int] = {}
        self._looked_up: Counter[str] = Counter()
        self._noticed: Counter[str] = Counter()
        self._moved = asyncio.Event()

    async def start(self, now: datetime) -> None:
        """Start a little before the end."""
        partitions = [(topic.name, number) for topic in (JOBS, WORKERS) for number in range(topic.partitions)]
        await self._source.assign(await self._source.after(partitions, now - LOOKBACK))

    async def follow(self, pulse: Pulse) -> None:
        """Read for ever. Raises when the log cannot be read: the process must start again."""
        with pulse.watching():
            while True:
                pulse.beat()
                for partition, records in (await self._source.read(records_max=BATCH, wait_s=1.0)).items():
                    self._take(partition, records)
                moved, self._moved = self._moved, asyncio.Event()
                moved.set()

    def _take(self, partition: Partition, records: Sequence[tuple[int, bytes]]) -> None:
        events, dead = decoded(*partition, records)
        for letter in dead:
            log.warning("fact_undecodable", offset=letter.offset, reason=letter.reason)
        for recorded in events:
            self._see(cast("Envelope[JobFact | WorkerEvent]", recorded.envelope))  # `decoded` has refused all others
        if partition[0] == JOBS.name:
            self._seen[partition] = records[-1][0] + 1

    # --- asking -----------------------------------------------------------------------------------------------------

    def answered(self, claim_id: str) -> Envelope[Event] | None:
        """Return the answer to a claim, if there is one."""
        return self._answers.get(claim_id)

    def answer(self, claim_id: str) -> "asyncio.Future[Envelope[Event]]":
        """Return the future answer to a claim."""
        return self._future((claim_id, 0))

    def end(self, job_id: str, epoch: int) -> "asyncio.Future[Envelope[Event]]":
        """Return the future fact that ends a claim, or that refuses a report about it."""
        return self._future((job_id, epoch))

    def _future(self, key: tuple[str, int]) -> "asyncio.Future[Envelope[Event]]":
        future: asyncio.Future[Envelope[Event]] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(future)
        future.add_done_callback(lambda done: self._forget(key, done))
        return future

    def _forget(self, key: tuple[str, int], future: "asyncio.Future[Envelope[Event]]") -> None:
        waiting = self._waiting.get(key, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(key, None)

    async def holding(self, job_id: str) -> Holding:
        """Return the holder of a job. Raises NotFound.

        The projection is asked once it has folded the last fact seen here. Waiting for this reader's own position would never
        end: it lies behind a transaction's marker, where no record is, and no projection gets there.
        """
        if (found := self._holdings.get(job_id)) is not None:
            return found
        self._looked_up[job_id] += 1
        try:
            while True:
                noticed = self._noticed[job_id]
                job = await self._stored(job_id, Positions(dict(self._seen)))
                if (found := self._holdings.get(job_id)) is not None:
                    return found  # read meanwhile, and newer
                if noticed == self._noticed[job_id]:
                    break  # else a fact arrived that the row may lack
        finally:
            self._looked_up[job_id] -= 1
            if not self._looked_up[job_id]:
                del self._looked_up[job_id], self._noticed[job_id]
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return self._keep(_of_row(job))

    async def held(self, job_id: str, worker_id: str, epoch: int) -> Holding:
        """Return the claim of this worker and epoch. Raises NotFound, Fenced (409; 403 for another worker's)."""
        holding = await self.holding(job_id)
        if epoch > holding.epoch:
            holding = await self._caught_up(job_id, epoch)
        fence(holding, worker_id, epoch)
        return holding

    async def _caught_up(self, job_id: str, epoch: int) -> Holding:
        """Wait a moment for a claim that was not read yet."""
        try:
            async with asyncio.timeout(AHEAD_S):
                while (holding := self._holdings[job_id]).epoch < epoch:
                    await self._moved.wait()
                return holding
        except TimeoutError:
            return self._holdings[job_id]

    # --- reading ----------------------------------------------------------------------------------------------------

    def _see(self, fact: Envelope[JobFact | WorkerEvent]) -> None:
        event = fact.data
        if isinstance(event, (WorkerLife, WorkerHeartbeat, WorkerDeployed, WorkerRolledBack)):
            return
        match event:
            case JobClaimed():
                self._keep(_of_claim(event))
                self._answer(event.claim_id, fact)
            case ClaimRefused():
                self._answer(event.claim_id, fact)
            case JobQueued():
                self._change(event.job_id, 0, "queued")
            case JobReleased():
                self._end(fact, event.job_id, event.epoch, "queued")
            case JobAttemptFailed() | LeaseExpired():
                self._end(fact, event.job_id, event.epoch, "retrying")
            case JobCompleted():
                self._end(fact, event.job_id, event.epoch, "completed")
            case JobFailed():
                self._end(fact, event.job_id, event.epoch, "failed")
            case JobCancelled():
                self._end(fact, event.job_id, event.epoch, "cancelled")
            case ResultRefused():
                holding = self._holdings.get(event.job_id)
                if holding is None or holding.worker_id == event.worker_id:  # another worker's refusal is no answer to the holder
                    self._wake((event.job_id, event.epoch), fact)
            case WorkerKeyRevoked():
                self._key_changed(event.key_id)
            case WorkerKeyRotated():
                self._key_changed(event.replaced_key_id)
            case (
                PartAccepted()
                | RequestRefused()
                | DispatchPaused()
                | DispatchResumed()
                | WorkerKeyIssued()
                | WorkerRequestRefused()
            ):
                pass
            case _:
                if not isinstance(event, (WorkerLife, WorkerHeartbeat, WorkerDeployed, WorkerRolledBack)):
                    assert_never(event)

    def _end(self, fact: Envelope[Event], job_id: str, epoch: int, status: Status) -> None:
        self._change(job_id, epoch, status, type(fact.data))
        self._wake((job_id, epoch), fact)

    def _change(self, job_id: str, epoch: int, status: Status, ended_by: type[Event] | None = None) -> None:
        """Note the new status of a job known here; the projection has the others."""
        holding = self._holdings.get(job_id)
        if holding is None and job_id in self._looked_up:
            self._noticed[job_id] += 1
        if holding is not None and (epoch >= holding.epoch or status == "queued"):
            self._keep(replace(holding, status=status, lease_expires_at=None, ended_by=holding.ended_by or ended_by))

    def _keep(self, holding: Holding) -> Holding:
        self._holdings[holding.job_id] = holding
        self._holdings.move_to_end(holding.job_id)
        while len(self._holdings) > HOLDINGS_MAX:
            self._holdings.popitem(last=False)
        return holding

    def _answer(self, claim_id: str, fact: Envelope[Event]) -> None:
        self._answers[claim_id] = fact
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        self._wake((claim_id, 0), fact)

    def _wake(self, key: tuple[str, int], fact: Envelope[Event]) -> None:
        for future in list(self._waiting.get(key, ())):
            if not future.done():
                future.set_result(fact)


def fence(holding: Holding, worker_id: str, epoch: int) -> None:
    """Raise Fenced unless (worker, epoch) holds the job now. Pure."""
    if epoch != holding.epoch:
        raise Fenced("fenced", f"epoch {epoch} of this job is over; it is at {holding.epoch}: stop, and drop what you made")
    if worker_id != holding.worker_id:
        raise Fenced("not_yours", "another worker holds this job", status=403)
    if holding.status == "cancelled":
        raise over(JobCancelled)
    if holding.status != "claimed":
        raise (
            Fenced("fenced", f"the claim is over: the job is {holding.status}")
            if holding.ended_by is None
            else over(holding.ended_by)
        )


def over(ended_by: type[Event]) -> Fenced:
    """Return the answer to a worker whose claim has ended, from the fact that ended it. Pure."""
    if ended_by is JobCancelled:
        return Fenced("cancelled", "the job was cancelled: stop, and drop what you made")
    return Fenced("fenced", f"the claim is over: {ENDS[ended_by]}")


def _of_claim(event: JobClaimed) -> Holding:
    return Holding(
        event.job_id,
        event.video_id,
        event.pool,
        event.spec.kind,
        "claimed",
        event.worker_id,
        event.epoch,
        event.attempt,
        event.lease_expires_at,
    )


def _of_row(job: Job) -> Holding:
    kind: JobKind = job.kind  # type: ignore[assignment]
    return Holding(
        job.job_id, job.video_id, job.pool, kind, job.status, job.worker_id, job.epoch, job.attempt, job.lease_expires_at
    )

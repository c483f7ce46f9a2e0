"""Transport between a worker and the dispatcher. Inside the cluster: requests appended, facts read from the tail of `jobs`.

Outside the cluster: `workers.remote.transport`. The loop knows only their common protocol, `Transport`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol, assert_never

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.clock import Context
from events.codec import decode
from events.envelope import Envelope, Event
from events.errors import InvalidEvent, KinologError, LogUnavailable
from events.jobs import (
    ClaimRefused,
    ClaimRequested,
    ClaimWithdrawn,
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
    LeaseReleased,
    LeaseRenewed,
    PartAccepted,
    RequestRefused,
    ResultRefused,
    ResultReported,
    is_fact,
)
from events.kinds import Capabilities
from events.topics import JOBS, partition_for
from producers.results import in_parts

PARTS_AT_ONCE = 20
"""Maximum parts of a result that are appended together."""
DECIDED_S = 20.0
WITHDRAWN_S = 3.0
log = structlog.get_logger(__name__)


class Drained(KinologError):
    """The dispatcher wants this worker to take no more jobs and to stop."""


@dataclass
class Held:
    """A claim that this worker holds. `lost` gets a reason when the dispatcher ends the claim."""

    claim: JobClaimed
    correlation_id: str
    lost: "asyncio.Future[str]"
    ended: "asyncio.Future[Event]" = field(repr=False)


Verdict = Literal["accepted", "refused"]


class Transport(Protocol):
    """Claims and the reports about them. Every method raises LogUnavailable when the platform cannot be reached."""

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> object:
        """Record events about the worker itself and about progress."""
        ...

    async def claim(self, capabilities: Capabilities, wait_s: float) -> Held | None:
        """Ask for a job and wait for it at most `wait_s`; None when there is none."""
        ...

    async def renew(self, held: Held) -> None:
        """Report that the worker still works on the job."""
        ...

    async def report(self, held: Held, report: ResultReported) -> Verdict | None:
        """Report the end of an attempt; return the verdict, None when no answer came in time.

        Raises InvalidEvent when the report can never be written.
        """
        ...

    async def release(self, held: Held, reason: str) -> None:
        """Hand the job back."""
        ...

    def forget(self, held: Held) -> None:
        """The attempt is over for this worker."""


class LogTransport:
    """Claims and reports over the log, for one worker and one pool. `process_id` distinguishes this process from earlier ones."""

    def __init__(
        self,
        worker_id: str,
        pool: str,
        *,
        process_id: str,
        append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]],
        open_consumer: Callable[[], Awaitable[AIOKafkaConsumer]],
        context: Callable[[str | None], Context],
        topic_prefix: str = "",
    ) -> None:
        self._worker_id, self._actor = worker_id, f"worker:{worker_id}"
        self._pool = pool
        self._process_id = process_id
        self._append = append
        self._open_consumer = open_consumer
        self._context = context
        self._partition = TopicPartition(topic_prefix + JOBS.name, partition_for(pool, JOBS.partitions))
        self._claims: dict[str, asyncio.Future[Envelope[Event]]] = {}
        self._held: dict[str, Held] = {}
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._consumer: AIOKafkaConsumer | None = None
        self._follower: asyncio.Task[None] | None = None

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> object:
        """Put events on the log."""
        return await self._append(envelopes)

    async def start(self) -> None:
        """Start to read at the end of `jobs`, so that answers to later requests are seen."""
        self._consumer = await self._open_consumer()
        self._consumer.assign([self._partition])
        await self._consumer.seek_to_end(self._partition)
        await self._consumer.position(self._partition)
        self._follower = asyncio.create_task(self._follow(), name="jobs-tail")

    async def stop(self) -> None:
        """Stop reading once all withdrawn claims are decided."""
        await asyncio.gather(*self._withdrawals)
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    async def claim(self, capabilities: Capabilities, wait_s: float) -> Held | None:
        """Ask for a job and wait for it at most `wait_s`; None when there is none. Raises LogUnavailable, Drained.

        On cancellation the request is withdrawn, and a job that was assigned meanwhile is handed back.
        """
        context = self._context(None)
        deadline = context.now + timedelta(seconds=wait_s)
        request = ClaimRequested(
            worker_id=self._worker_id, pool=self._pool, capabilities=capabilities, deadline=deadline, process_id=self._process_id
        )
        claim_id = context.new_id()
        answer: asyncio.Future[Envelope[Event]] = asyncio.get_running_loop().create_future()
        self._claims[claim_id] = answer
        answer.add_done_callback(lambda _: self._claims.pop(claim_id, None))
        try:
            await self._append([self._envelope(request, context, claim_id)])
            async with asyncio.timeout(wait_s + 5):
                fact = await asyncio.shield(answer)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._withdraw(claim_id, answer), name="withdraw")
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)
            raise
        except TimeoutError:
            answer.cancel()
            return None
        except LogUnavailable:
            answer.cancel()
            raise
        if isinstance(fact.data, ClaimRefused) and fact.data.reason == "draining":
            raise Drained("the worker, or its pool, is drained")
        return self._hold(fact) if isinstance(fact.data, JobClaimed) else None

    async def _withdraw(self, claim_id: str, answer: "asyncio.Future[Envelope[Event]]") -> None:
        context = self._context(None)
        withdrawn = ClaimWithdrawn(worker_id=self._worker_id, pool=self._pool, claim_id=claim_id)
        try:
            async with asyncio.timeout(WITHDRAWN_S):
                await self._append([self._envelope(withdrawn, context, context.new_id())])
                fact = await answer
                if isinstance(fact.data, JobClaimed):
                    held = self._hold(fact)
                    self.forget(held)
                    await self.release(held, "the worker is being stopped")
        except (TimeoutError, LogUnavailable):
            log.warning("claim_not_withdrawn", claim_id=claim_id)
            answer.cancel()

    def _hold(self, fact: Envelope[Event]) -> Held:
        assert isinstance(fact.data, JobClaimed)
        loop = asyncio.get_running_loop()
        held = Held(fact.data, fact.correlationid, loop.create_future(), loop.create_future())
        self._held[fact.data.job_id] = held
        return held

    async def renew(self, held: Held) -> None:
        """Report that the worker still works on the job. Raises LogUnavailable."""
        claim = held.claim
        await self._send(held, LeaseRenewed(job_id=claim.job_id, pool=claim.pool, worker_id=self._worker_id, epoch=claim.epoch))

    async def report(self, held: Held, report: ResultReported) -> Verdict | None:
        """Report the end of an attempt; return the verdict, None when no answer came in time.

        Raises LogUnavailable, InvalidEvent.
        """
        parts = in_parts(report)
        for at in range(0, len(parts), PARTS_AT_ONCE):
            await self._send(held, *parts[at : at + PARTS_AT_ONCE])
        try:
            async with asyncio.timeout(DECIDED_S):
                fact = await asyncio.shield(held.ended)
        except TimeoutError:
            return None
        takes = (JobAttemptFailed, JobFailed) if report.result is None else (JobCompleted,)
        return "accepted" if isinstance(fact, takes) and fact.epoch == held.claim.epoch else "refused"

    async def release(self, held: Held, reason: str) -> None:
        """Hand the job back. Raises LogUnavailable."""
        claim = held.claim
        await self._send(
            held,
            LeaseReleased(job_id=claim.job_id, pool=claim.pool, worker_id=self._worker_id, epoch=claim.epoch, reason=reason),
        )

    def forget(self, held: Held) -> None:
        """The attempt is over for this worker."""
        self._held.pop(held.claim.job_id, None)

    async def _send(self, held: Held, *requests: Event) -> None:
        context = self._context(held.correlation_id)
        await self._append([self._envelope(request, context, context.new_id()) for request in requests])

    def _envelope(self, request: Event, context: Context, id_: str) -> Envelope[Event]:
        return Envelope(id_, context.source, self._pool, context.now, request, context.correlation_id or id_, None, self._actor)

    async def _follow(self) -> None:
        assert self._consumer is not None
        while True:
            try:
                fetched = await self._consumer.getmany(self._partition, timeout_ms=5000)
            except KafkaError as error:
                log.warning("jobs_tail_failed", error=str(error))
                await asyncio.sleep(0.5)
                continue
            for messages in fetched.values():
                for message in messages:
                    try:
                        fact = decode(message.value or b"")
                        if is_fact(fact):
                            await self._see(fact)
                    except InvalidEvent as error:
                        log.warning("fact_undecodable", offset=message.offset, reason=str(error))
                    except Exception as error:  # a bug with this fact alone: other facts are still awaited
                        log.exception("fact_not_seen", offset=message.offset, error=str(error))

    async def _see(self, fact: Envelope[JobFact]) -> None:
        event = fact.data
        match event:
            case JobClaimed():
                await self._claimed(event, fact)
            case ClaimRefused():
                if event.claim_id in self._claims:
                    _fulfil(self._claims[event.claim_id], fact)
            case JobCompleted() | JobFailed() | JobAttemptFailed() | JobReleased() | JobCancelled() | LeaseExpired():
                self._ended(event.job_id, event.epoch, event)
            case ResultRefused():
                if event.worker_id == self._worker_id:
                    self._ended(event.job_id, event.epoch, event)
            case JobQueued() | PartAccepted() | RequestRefused() | DispatchPaused() | DispatchResumed():
                return
            case _:
                assert_never(event)

    async def _claimed(self, event: JobClaimed, fact: Envelope[JobFact]) -> None:
        if event.worker_id == self._worker_id and event.claim_id in self._claims:
            _fulfil(self._claims[event.claim_id], fact)
        elif event.process_id == self._process_id and event.job_id not in self._held:
            held = self._hold(fact)  # the answer came after the wait for it had ended
            self.forget(held)
            try:
                await self.release(held, "the claim was answered too late")
            except LogUnavailable:
                log.warning("late_claim_left_to_expire", job_id=event.job_id)
        else:
            self._ended(event.job_id, event.epoch, event)

    def _ended(self, job_id: str, epoch: int, event: Event) -> None:
        """Notify the holder of (job, epoch) that a fact ended its claim; a newer epoch ends it as well."""
        held = self._held.get(job_id)
        if held is None or epoch < held.claim.epoch or (isinstance(event, JobClaimed) and epoch == held.claim.epoch):
            return
        if not held.ended.done():
            held.ended.set_result(event)
        if not held.lost.done():
            held.lost.set_result(type(event).__name__)


def _fulfil(future: "asyncio.Future[Envelope[Event]]", fact: Envelope[Event]) -> None:
    if not future.done():
        future.set_result(fact)

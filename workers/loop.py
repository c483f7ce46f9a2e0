"""The loop of a worker: claim, run, renew, tick, report; one job at a time in each of its slots.

A lease is lost when the dispatcher ends it (another epoch, a cancellation) or when no renewal arrived for the lifetime of
a lease. The run is then cancelled, and nothing of it is reported.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from events.clock import Clock, Context
from events.envelope import Envelope, Event
from events.errors import InvalidEvent, LogUnavailable
from events.jobs import ResultReported
from events.kinds import Capabilities, JobResult, JobSpec
from events.media import Failure
from events.objects import attempt_prefix
from events.progress import ProgressTicked
from events.workers import WorkerDrained, WorkerHeartbeat, WorkerRegistered
from workers.attempts import failures
from workers.attempts.attempt import Surroundings, attempt
from workers.attempts.work import Progress, Runner, Work
from workers.transcode.detect import Hardware
from workers.transport import Drained, Held, Transport

CLAIM_WAIT_S = 30.0
HEARTBEAT_S = 10.0
SLOT_REST_S = 5.0
Outcome = Literal["completed", "failed", "released", "fenced"]
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """Identity and machine of this worker."""

    worker_id: str
    name: str
    pool: str
    version: str
    cpu_count: int
    memory_bytes: int
    hardware: Hardware


@dataclass(frozen=True)
class Tools:
    """Dependencies of the loop, opened by the composition root. `work(prefix, directory)` makes the `Work` of an attempt.

    The loop calls `began` and `ended` around each run; a run that ends without result and failure was given up.
    """

    transport: Transport
    context: Callable[[str | None], Context]
    clock: Clock
    runners: Mapping[str, Runner]
    work: Callable[[str, Path], Work]
    observe: Callable[[str, Outcome, float], None]
    surroundings: Surroundings
    began: Callable[[JobSpec], None] = lambda spec: None
    ended: Callable[[JobSpec, float, JobResult | None, Failure | None], None] = lambda spec, seconds, result, failure: None


def everything(slots: Sequence[Capabilities]) -> Capabilities:
    """Return the capabilities of a worker with these slots. Pure."""
    kinds = dict.fromkeys(kind for slot in slots for kind in slot.kinds)
    return slots[0].model_copy(update={"kinds": tuple(kinds)})


class Worker:
    """One worker process. Each of its `slots` independently claims jobs that its capabilities cover."""

    def __init__(
        self,
        identity: Identity,
        slots: Sequence[Capabilities],
        tools: Tools,
        directory: Path,
        *,
        lease_s: float,
        renew_s: float,
        drain_s: float,
    ) -> None:
        self._identity = identity
        self._slots = slots
        self._tools = tools
        self._directory = directory
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._drain_s = drain_s
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._busy: set[str] = set()

    def use(self, *, lease_s: float, renew_s: float) -> None:
        """Renew by other times from the next renewal on."""
        self._lease_s, self._renew_s = lease_s, renew_s

    def stop(self) -> None:
        """Take no more jobs; finish the running ones within the drain time or hand them back. A second call hands back at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()
        log.info("stopping", at_once=self._at_once.is_set(), job_ids=sorted(self._busy))

    async def run(self) -> None:
        """Work until `stop`."""
        me = self._identity
        registered = WorkerRegistered(
            worker_id=me.worker_id,
            name=me.name,
            pool=me.pool,
            version=me.version,
            capabilities=everything(self._slots),
            cpu_count=me.cpu_count,
            memory_bytes=me.memory_bytes,
            cards=me.hardware.cards,
            trials=me.hardware.trials,
        )
        await self._announce(registered)
        heartbeat = asyncio.create_task(self._heartbeats(), name="heartbeats")
        slots = [asyncio.create_task(self._work_in(slot), name=f"slot {number}") for number, slot in enumerate(self._slots)]
        try:
            await asyncio.gather(*slots)
        finally:
            for task in (heartbeat, *slots):
                task.cancel()
            await asyncio.gather(heartbeat, *slots, return_exceptions=True)
            with contextlib.suppress(LogUnavailable):
                await self._announce(WorkerDrained(worker_id=me.worker_id, reason="stopped"))

    async def _work_in(self, slot: Capabilities) -> None:
        while not self._stopping.is_set():
            if (held := await self._claim(slot)) is None:
                continue
            try:
                await self._work_on(held)
            except Exception as error:  # a bug: the lease expires by itself, and the other slots continue
                log.exception("slot_failed", error=str(error))
                await self._tools.clock.sleep(SLOT_REST_S)

    async def _claim(self, slot: Capabilities) -> Held | None:
        claim = asyncio.create_task(self._tools.transport.claim(slot, CLAIM_WAIT_S))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({claim, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not claim.done():
            claim.cancel()  # the transport hands back a job that still arrives
        try:
            return await claim
        except asyncio.CancelledError:
            return None
        except Drained:
            log.info("worker_drained")
            if not self._stopping.is_set():  # another slot may have received it before
                self.stop()
            return None
        except (LogUnavailable, InvalidEvent) as error:
            log.warning("claim_failed", error=str(error))
            await self._tools.clock.sleep(1.0)
            return None

    async def _work_on(self, held: Held) -> None:
        claim = held.claim
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._busy.add(claim.job_id)
        with structlog.contextvars.bound_contextvars(correlation_id=held.correlation_id, job_id=claim.job_id, epoch=claim.epoch):
            log.info("job_claimed", kind=claim.spec.kind, video_id=claim.video_id, attempt=claim.attempt)
            try:
                outcome = await self._attempt(held)
            finally:
                self._tools.transport.forget(held)
                self._busy.discard(claim.job_id)
            self._tools.observe(claim.spec.kind, outcome, loop.time() - started)
            log.info("job_ended", kind=claim.spec.kind, outcome=outcome, seconds=round(loop.time() - started, 3))

    async def _attempt(self, held: Held) -> Outcome:
        """Run the job beside its watchers; the first to end decides."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._tools.began(held.claim.spec)
        run = asyncio.create_task(self._run(held), name="run")
        lease = asyncio.create_task(self._keep_lease(held), name="lease")
        drained = asyncio.create_task(self._drained(), name="drained")
        try:
            await asyncio.wait({run, lease, drained}, return_when=asyncio.FIRST_COMPLETED)
            result, failure = run.result() if run.done() else (None, None)
            self._tools.ended(held.claim.spec, loop.time() - began, result, failure)
            if run.done():
                return await self._report(held, result, failure)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            if lease.done():
                log.warning("lease_lost", reason=lease.result())
                return "fenced"
            with contextlib.suppress(LogUnavailable):
                await self._tools.transport.release(held, "the worker is being stopped")
            return "released"
        finally:
            for task in (run, lease, drained):
                task.cancel()
            await asyncio.gather(run, lease, drained, return_exceptions=True)

    async def _drained(self) -> None:
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._at_once.wait()

    async def _keep_lease(self, held: Held) -> str:
        """Renew until the lease is lost; return the reason."""
        loop = asyncio.get_running_loop()
        alive = loop.time()
        while True:
            done, _ = await asyncio.wait({held.lost}, timeout=self._renew_s)
            if done:
                return held.lost.result()
            try:
                await self._tools.transport.renew(held)
                alive = loop.time()
            except LogUnavailable as error:
                log.warning("renewal_failed", error=str(error))
            if loop.time() - alive > self._lease_s:
                return "no renewal got through for the life of a lease"

    async def _run(self, held: Held) -> tuple[JobResult | None, Failure | None]:
        """Run the work in a directory of its own; return its result or its classified failure."""
        claim = held.claim
        directory = self._directory / f"{claim.job_id}-{claim.epoch}"
        work = self._tools.work(attempt_prefix(claim.video_id, claim.job_id, claim.epoch), directory)
        runner = self._tools.runners[claim.spec.kind]
        made = await attempt(claim.spec, runner, work, self._tools.surroundings, lambda progress: self._tick(held, progress))
        return (None, made) if isinstance(made, Failure) else (made, None)

    async def _tick(self, held: Held, progress: Progress) -> None:
        claim = held.claim
        tick = ProgressTicked(
            job_id=claim.job_id,
            video_id=claim.video_id,
            worker_id=self._identity.worker_id,
            epoch=claim.epoch,
            kind=claim.spec.kind,
            step=progress.step,
            percent=progress.percent,
            frames=progress.frames,
            speed=progress.speed,
            rungs=progress.rungs,
        )
        with contextlib.suppress(LogUnavailable, InvalidEvent):  # nothing depends on a tick
            await self._append(tick, claim.job_id, held.correlation_id)

    async def _report(self, held: Held, result: JobResult | None, failure: Failure | None) -> Outcome:
        """Report until the log has the result or the lease is lost. A result that cannot be written is reported as a failure."""
        claim = held.claim
        report = ResultReported(
            job_id=claim.job_id,
            pool=claim.pool,
            worker_id=self._identity.worker_id,
            epoch=claim.epoch,
            result=result,
            failure=failure,
        )
        if failure is not None:
            log.warning("job_failed", code=failure.code, message=failure.message, detail=(failure.detail or "")[-500:])
        deadline = asyncio.get_running_loop().time() + self._lease_s
        unwritable = 0
        while asyncio.get_running_loop().time() < deadline:
            try:
                verdict = await self._tools.transport.report(held, report)
            except LogUnavailable as error:
                log.warning("report_failed", error=str(error))
                await self._tools.clock.sleep(0.5)
                continue
            except InvalidEvent as error:
                log.error("report_unwritable", failed=report.failure is not None, error=str(error))
                if (unwritable := unwritable + 1) > 1:
                    return "fenced"  # the failure cannot be written either: the lease expires by itself
                report = report.model_copy(update={"result": None, "failure": failures.unwritable(claim.spec.kind, report, error)})
                continue
            if verdict is None:
                continue  # no answer: report again, the dispatcher recognises repeats
            if verdict == "refused":
                return "fenced"
            return "failed" if report.failure is not None else "completed"
        return "fenced"

    async def _heartbeats(self) -> None:
        while True:
            status: Literal["idle", "busy", "draining"] = "busy" if self._busy else "idle"
            if self._stopping.is_set():
                status = "draining"
            try:
                await self._announce(
                    WorkerHeartbeat(worker_id=self._identity.worker_id, status=status, job_ids=tuple(sorted(self._busy)))
                )
            except LogUnavailable:
                log.debug("heartbeat_lost")  # the next one may arrive
            except Exception as error:  # a bug: without heartbeats the worker would count as offline
                log.exception("heartbeat_failed", error=str(error))
            await self._tools.clock.sleep(HEARTBEAT_S)

    async def _announce(self, event: Event) -> None:
        await self._append(event, self._identity.worker_id, None)

    async def _append(self, event: Event, subject: str, correlation_id: str | None) -> None:
        context = self._tools.context(correlation_id)
        id_ = context.new_id()
        actor = f"worker:{self._identity.worker_id}"
        envelope = Envelope(id_, context.source, subject, context.now, event, correlation_id or id_, actor=actor)
        await self._tools.transport.append([envelope])

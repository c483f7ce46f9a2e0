"""Jobs in memory; tests/integration/api/worker/test_transports.py holds it to what log and worker app do."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from events.envelope import Envelope, Event
from events.jobs import JobClaimed, ResultReported
from events.kinds import KINDS, Capabilities, JobKind, JobSpec, Source
from infra.runtime.clock import new_id
from producers.appender import record_of
from workers.transport import Drained, Held, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = Source(object_key="sources/v/original", size_bytes=4)


@dataclass
class _Job:
    id: str
    kind: JobKind
    epoch: int = 0
    holder: Held | None = None
    ended: bool = False


class Queue:
    """A `workers.transport.Transport` with jobs of each kind. It remembers claims, events and reports."""

    def __init__(self, **waiting: int) -> None:
        self.claims: list[Capabilities] = []
        self.appended: list[Event] = []
        self.reported: list[ResultReported] = []
        self._jobs: dict[str, _Job] = {}
        self._drains = False
        self._moved = asyncio.Condition()
        for kind, count in waiting.items():
            for _ in range(count):
                self._add(cast("JobKind", kind))

    @property
    def waiting(self) -> Counter[str]:
        """How many jobs of each kind wait for a worker."""
        return Counter(job.kind for job in self._jobs.values() if job.holder is None and not job.ended)

    def _add(self, kind: JobKind) -> str:
        job = _Job(f"{kind}-{new_id()}", kind)
        self._jobs[job.id] = job
        return job.id

    async def submit(self, kind: JobKind) -> str:
        """Let a job wait; return its id."""
        job_id = self._add(kind)
        await self._wake()
        return job_id

    async def cancel(self, job_id: str) -> None:
        """End a job that nobody needs."""
        job = self._jobs[job_id]
        job.ended = True
        if job.holder is not None:
            job.holder.lost.set_result("JobCancelled")

    async def drain(self) -> None:
        """Give no more jobs, and say so."""
        self._drains = True
        await self._wake()

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> object:
        """Remember what the worker says of itself."""
        self.appended += [envelope.data for envelope in envelopes]
        return None

    async def claim(self, capabilities: Capabilities, wait_s: float) -> Held | None:
        """Give the first job that fits, as soon as there is one."""
        self.claims.append(capabilities)

        def fits() -> _Job | None:
            jobs = self._jobs.values()
            return next((job for job in jobs if job.holder is None and not job.ended and job.kind in capabilities.kinds), None)

        try:
            async with asyncio.timeout(wait_s), self._moved:
                await self._moved.wait_for(lambda: self._drains or fits() is not None)
        except TimeoutError:
            return None
        if self._drains or (job := fits()) is None:
            raise Drained
        job.epoch += 1
        job.holder = held(job.kind, job.id, job.epoch)
        return job.holder

    async def renew(self, held: Held) -> None:
        """Nothing expires here."""

    async def report(self, held: Held, report: ResultReported) -> Verdict | None:
        """End the job, if it is still the holder who reports. Raises InvalidEvent, EventTooLarge."""
        record_of(Envelope(new_id(), "kinolog/test", report.pool, NOON, report, held.correlation_id))
        job = self._jobs[held.claim.job_id]
        if job.holder is not held or job.ended:
            return "refused"
        self.reported.append(report)
        job.ended = True
        return "accepted"

    async def release(self, held: Held, reason: str) -> None:
        """Let the job wait for another claim."""
        job = self._jobs[held.claim.job_id]
        if job.holder is held:
            job.holder = None
            await self._wake()

    def forget(self, held: Held) -> None:
        """Nothing is kept for a worker."""


def held(kind: JobKind, job_id: str, epoch: int) -> Held:
    """Return a claim of a job whose spec nobody looks at."""
    claim = JobClaimed.model_construct(
        job_id=job_id,
        video_id="v",
        pool="default",
        worker_id="w",
        claim_id="c",
        epoch=epoch,
        attempt=epoch,
        lease_expires_at=NOON,
        spec=cast("JobSpec", KINDS[kind].spec.model_construct(kind=kind, source=SOURCE)),
    )
    loop = asyncio.get_running_loop()
    return Held(claim, "c", loop.create_future(), loop.create_future())

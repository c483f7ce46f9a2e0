"""Transport of a worker outside the cluster: the same guarantees as on the log, through calls of the worker app."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from events.envelope import Envelope, Event
from events.errors import EventTooLarge, InvalidEvent
from events.hosts import HostSampled
from events.jobs import JobClaimed, PartReported, ResultReported
from events.kinds import Capabilities
from events.media import Failure
from events.progress import ProgressTicked
from events.workers import WorkerDrained, WorkerHeartbeat, WorkerRegistered
from producers.results import in_parts
from workers.remote.gateway import CALLS_S, Gateway, Lost, Rejected
from workers.transport import Drained, Held, Verdict

ANSWERED_S = 15.0
"""Maximum time after a claim's wait in which its answer may come."""
GOING_S = 10.0
"""Maximum time for attempts to hand a job back: the caller that waits for the worker's end is not patient."""
TOO_LARGE = 413
NOT_NOW_S = 30.0
"""Wait before a worker with an unwanted version asks again."""
log = structlog.get_logger(__name__)


class HttpTransport:
    """Claims and reports of one worker; a `workers.transport.Transport`. It learns of a lost claim from any answer."""

    def __init__(self, gateway: Gateway, *, pool: str, version: str, new_id: Callable[[], str]) -> None:
        self._gateway = gateway
        self._pool = pool
        self._version = version
        self._new_id = new_id
        self._process_id = new_id()
        self._held: dict[str, Held] = {}

    def held_for(self, video_id: str) -> Held | None:
        """Return a claim for a video that is not lost, if there is one."""
        of_video = (held for held in self._held.values() if held.claim.video_id == video_id and not held.lost.done())
        return next(of_video, None)

    def lost(self, job_id: str, why: Lost) -> None:
        """Record that this worker lost a claim."""
        held = self._held.get(job_id)
        if held is not None and not held.lost.done():
            held.lost.set_result(why.state)

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        """Record events about the worker itself and about progress. Raises LogUnavailable."""
        for envelope in envelopes:
            await self._report(envelope.data)

    async def _report(self, event: Event) -> None:
        match event:
            case WorkerRegistered():
                about = {
                    "worker_name": event.name,
                    "pool": event.pool,
                    "code_version": event.version,
                    "capabilities": event.capabilities.model_dump(mode="json"),
                    "cpu_count": event.cpu_count,
                    "memory_bytes": event.memory_bytes,
                    "cards": [card.model_dump(mode="json") for card in event.cards or ()],
                    "trials": [trial.model_dump(mode="json") for trial in event.trials or ()],
                }
                await self._gateway.call("PUT", "/api/worker/self", about)
            case WorkerHeartbeat():
                beat = {"status": event.status, "code_version": self._version, "job_ids": event.job_ids}
                await self._gateway.call("POST", "/api/worker/heartbeat", beat, tried_s=0)
            case WorkerDrained():
                await self._gateway.call("POST", "/api/worker/goodbye", {"reason": event.reason}, tried_s=0)
            case HostSampled():
                sample = {"name": event.name, "state": event.state.model_dump(mode="json")}
                await self._gateway.call("POST", "/api/worker/host", sample, tried_s=0)
            case ProgressTicked():
                await self._progress(event.job_id, _tick(event), tried_s=0)
            case _:
                raise TypeError(f"a worker does not say {event.TYPE}")

    async def claim(self, capabilities: Capabilities, wait_s: float) -> Held | None:
        """Ask for a job and wait for it at most `wait_s`; None when there is none. Raises LogUnavailable, InvalidEvent, Drained.

        It stays one claim, answered once, even if the connection breaks repeatedly.
        """
        wish = {
            "claim_id": self._new_id(),
            "process_id": self._process_id,
            "pool": self._pool,
            "code_version": self._version,
            "capabilities": capabilities.model_dump(mode="json"),
            "wait_s": wait_s,
        }
        answer = await self._gateway.call("POST", "/api/worker/claim", wish, answer_s=wait_s + ANSWERED_S)
        if answer["reason"] == "draining":
            raise Drained(answer["message"])
        if answer["claim"] is None:
            if answer["reason"] != "no_job":
                log.warning("no_job_for_us", reason=answer["reason"], message=answer["message"])
                await asyncio.sleep(NOT_NOW_S)
            return None
        try:
            claim = JobClaimed.model_validate(answer["claim"])
        except ValidationError as error:
            raise InvalidEvent(f"this worker does not know such a job: {error.error_count()} errors") from error
        loop = asyncio.get_running_loop()
        held = Held(claim, answer["correlation_id"], loop.create_future(), loop.create_future())
        self._held[claim.job_id] = held
        return held

    async def renew(self, held: Held) -> None:
        """Report that the worker still works on the job. Raises LogUnavailable."""
        await self._progress(held.claim.job_id, {"epoch": held.claim.epoch})

    async def _progress(self, job_id: str, said: dict[str, Any], *, tried_s: float = CALLS_S) -> None:
        try:
            await self._gateway.call("POST", f"/api/worker/{job_id}/progress", said, tried_s=tried_s)
        except Lost as lost:
            self.lost(job_id, lost)

    async def report(self, held: Held, report: ResultReported) -> Verdict | None:
        """Report the end of an attempt; return the verdict. Raises LogUnavailable, InvalidEvent."""
        job = f"/api/worker/{held.claim.job_id}"
        *parts, last = in_parts(report)
        try:
            for part in parts:
                assert isinstance(part, PartReported)
                said = part.model_dump(mode="json", include={"epoch", "part", "renditions"}, exclude_none=True)
                await self._gateway.call("POST", f"{job}/part", said)
            assert isinstance(last, ResultReported)
            how, kept = ("complete", {"epoch", "result"}) if last.result is not None else ("fail", {"epoch", "failure"})
            await self._gateway.call("POST", f"{job}/{how}", last.model_dump(mode="json", include=kept))
        except Lost as lost:
            log.warning("report_refused", state=lost.state, detail=str(lost))
            return "refused"
        except Rejected as rejected:
            if rejected.status == TOO_LARGE:
                raise EventTooLarge(f"the worker app does not take it: {rejected}") from rejected
            if report.result is None:
                raise InvalidEvent(f"the worker app does not take it: {rejected}") from rejected
            message = f"The worker app did not take the result: {rejected}"
            failure = Failure(stage="post_processing", category="validation", code="RESULT_REFUSED", message=message[:2000])
            return await self.report(held, report.model_copy(update={"result": None, "failure": failure}))
        except (UnicodeEncodeError, PydanticSerializationError) as error:
            raise InvalidEvent(f"the report cannot be sent: {error}") from error
        return "accepted"

    async def release(self, held: Held, reason: str) -> None:
        """Hand the job back. Raises LogUnavailable."""
        try:
            said = {"epoch": held.claim.epoch, "reason": reason}
            await self._gateway.call("POST", f"/api/worker/{held.claim.job_id}/release", said, tried_s=GOING_S)
        except Lost as lost:
            self.lost(held.claim.job_id, lost)

    def forget(self, held: Held) -> None:
        """The attempt is over for this worker."""
        self._held.pop(held.claim.job_id, None)


def _tick(event: ProgressTicked) -> dict[str, Any]:
    """Return a tick in the form that the worker app accepts. Pure."""
    return {
        "epoch": event.epoch,
        "current_step": event.step,
        "progress_percent": event.percent,
        "frames": event.frames,
        "speed": event.speed,
        "quality_progress": [
            {
                "name": rung.name,
                "status": "completed" if rung.percent >= 100 else "in_progress",
                "progress": rung.percent,
                "segments_total": rung.segments_total,
                "segments_completed": rung.segments_completed,
            }
            for rung in event.rungs
        ],
    }

"""Checks facts about jobs, in log order, against the rules that hold through any crash. Pure."""

from dataclasses import dataclass, field
from typing import assert_never

from events.envelope import Event, Recorded
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


@dataclass
class _Job:
    epoch: int = 0
    running: bool = False
    ended: bool = False
    completed: bool = False


@dataclass
class JobAudit:
    """Sees every fact once; each of `complaints` names an event and the rule it broke."""

    complaints: list[str] = field(default_factory=list)
    _jobs: dict[str, _Job] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """Number of jobs seen."""
        return len(self._jobs)

    def see(self, recorded: Recorded[JobFact]) -> None:
        """Check one fact."""
        event = recorded.envelope.data
        match event:
            case JobQueued():
                job = self._jobs.setdefault(event.job_id, _Job())
                if event.reason == "submitted" and (job.epoch or job.ended):
                    self._complain(recorded, "was queued a second time")
                if event.reason == "retried" and (not job.ended or job.completed):
                    self._complain(recorded, "was retried though it had not failed")
                if event.reason == "requeued" and (job.ended or job.running):
                    self._complain(recorded, "was requeued though it was running or had ended")
                job.ended = False
            case JobClaimed():
                job = self._known(recorded, event.job_id)
                if job.ended or job.running:
                    self._complain(recorded, "was claimed while it was running or ended")
                if event.epoch <= job.epoch:
                    self._complain(recorded, f"has epoch {event.epoch} after {job.epoch}")
                job.epoch, job.running = event.epoch, True
            case JobAttemptFailed() | LeaseExpired() | JobReleased():
                self._leave(recorded, event.job_id, event.epoch)
            case JobCompleted():
                job = self._leave(recorded, event.job_id, event.epoch)
                if job.completed:
                    self._complain(recorded, "completed twice")
                job.ended = job.completed = True
            case JobFailed() | JobCancelled():
                job = self._known(recorded, event.job_id)
                if job.ended:
                    self._complain(recorded, "ended twice")
                job.ended, job.running = True, False
            case PartAccepted() | ClaimRefused() | ResultRefused() | RequestRefused() | DispatchPaused() | DispatchResumed():
                return
            case _:
                assert_never(event)

    def _leave(self, recorded: Recorded[Event], job_id: str, epoch: int) -> _Job:
        job = self._known(recorded, job_id)
        if not job.running or epoch != job.epoch:
            self._complain(recorded, f"was reported by epoch {epoch}, not by its holder")
        job.running = False
        return job

    def _known(self, recorded: Recorded[Event], job_id: str) -> _Job:
        if job_id not in self._jobs:
            self._complain(recorded, "was never queued")
        return self._jobs.setdefault(job_id, _Job())

    def _complain(self, recorded: Recorded[Event], what: str) -> None:
        event = recorded.envelope.data
        where = f"{recorded.topic}/{recorded.partition}/{recorded.offset}"
        self.complaints.append(f"{where} {type(event).__name__}: job {getattr(event, 'job_id', '?')} {what}")

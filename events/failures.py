"""Outcomes of failed attempts: topic `failures`, key = failure_id. Topic `jobs` has the failures themselves."""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Event
from events.media import Failure
from events.text import machine_line


class FailureResolved(Event, type="kinolog.failure.resolved.v1"):
    """A person reports that the cause of a failed attempt is gone, and why."""

    failure_id: str
    reason: str = Field(max_length=500)


class FailureRerun(Event, type="kinolog.failure.rerun.v1"):
    """A failed attempt was run again from its capsule, for the record only: its output was thrown away.

    `reproduced`: it failed with the same stage, category and code. `failure` is the rerun's own, None when it succeeded;
    `worker` names the machine; `seconds` is the run time.
    """

    failure_id: str
    verdict: Literal["reproduced", "not_reproduced"]
    worker: Annotated[str, machine_line(255)] = Field(max_length=255)
    seconds: float
    failure: Failure | None = None


FailureEvent = FailureResolved | FailureRerun


def failure_id(job_id: str, epoch: int) -> str:
    """Return the id of a failed attempt, made of the job's id and the claim's epoch."""
    return f"{job_id}:{epoch}"

"""Failure capsules: everything needed to run a failed attempt again on any machine that reaches the object store. Pure.

A capsule's content comes from the log: the job as it was claimed, its inputs with digests, the failure with command line
and versions, and the attempt's events with their positions. `sha256` covers all the rest: an altered capsule is refused.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from events.codec import encode
from events.envelope import Event, Recorded
from events.errors import InvalidRequest, NotFound
from events.failures import failure_id
from events.faults import sentence
from events.jobs import JobClaimed
from events.kinds import RepeatableSpec, RerunSpec, Source
from events.media import Failure
from events.objects import objects_in
from projections.failures.projection import FailedFact, failure_of


class Input(BaseModel):
    """An object that the attempt reads. The digest of some sources is not recorded."""

    key: str
    size_bytes: int
    sha256: str | None


class CapsuleEvent(BaseModel):
    """An event as it is on the log, with its position."""

    topic: str
    partition: int
    offset: int
    event: dict[str, Any]


class Capsule(BaseModel):
    """See the module."""

    model_config = ConfigDict(frozen=True)

    capsule: Literal[1] = 1
    failure_id: str
    job_id: str
    video_id: str
    epoch: int
    attempt: int
    worker_id: str
    spec: RepeatableSpec
    inputs: tuple[Input, ...]
    failure: Failure
    events: tuple[CapsuleEvent, ...]
    sha256: str = ""


def capsule_of(which: str, events: Sequence[Recorded[Event]]) -> Capsule:
    """Make the capsule of a failed attempt from the events of its job. Raises NotFound when they do not contain it."""
    claimed: JobClaimed | None = None
    failed: Failure | None = None
    kept: list[Recorded[Event]] = []
    for recorded in events:
        event = recorded.envelope.data
        if failure_id(getattr(event, "job_id", ""), getattr(event, "epoch", 0)) != which:
            continue
        kept.append(recorded)
        if isinstance(event, JobClaimed):
            claimed = event
        elif isinstance(event, FailedFact):
            failed = failure_of(event)
    if claimed is None or failed is None or isinstance(claimed.spec, RerunSpec):
        raise NotFound(f"the log has no failed attempt {which}")
    return sealed(
        Capsule(
            failure_id=which,
            job_id=claimed.job_id,
            video_id=claimed.video_id,
            epoch=claimed.epoch,
            attempt=claimed.attempt,
            worker_id=claimed.worker_id,
            spec=claimed.spec,
            inputs=inputs_of(claimed.spec),
            failure=failed,
            events=tuple(_capsule_event(recorded) for recorded in kept),
        )
    )


def inputs_of(spec: RepeatableSpec) -> tuple[Input, ...]:
    """Return the objects that a job reads: its source, if it has one, and those named in its spec."""
    source: Source | None = getattr(spec, "source", None)
    read = [Input(key=source.object_key, size_bytes=source.size_bytes, sha256=source.sha256)] if source is not None else []
    return (*read, *(Input(key=ref.key, size_bytes=ref.size_bytes, sha256=ref.sha256) for ref in objects_in(spec)))


def sealed(capsule: Capsule) -> Capsule:
    """Return the capsule with its digest."""
    return capsule.model_copy(update={"sha256": _digest(capsule)})


def opened(document: bytes) -> Capsule:
    """Read a capsule. Raises InvalidRequest when the document is not a capsule or was altered."""
    try:
        capsule = Capsule.model_validate_json(document)
    except ValidationError as error:
        raise InvalidRequest(f"this is no failure capsule: {sentence(error.errors()[0])}") from error
    if capsule.sha256 != _digest(capsule):
        raise InvalidRequest("the capsule was changed after it was made: its SHA-256 differs")
    return capsule


def _digest(capsule: Capsule) -> str:
    content = capsule.model_dump(mode="json", exclude={"sha256"})
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _capsule_event(recorded: Recorded[Event]) -> CapsuleEvent:
    event = orjson.loads(encode(recorded.envelope))
    return CapsuleEvent(topic=recorded.topic, partition=recorded.partition, offset=recorded.offset, event=event)

"""Audit: the events that a person, or a token in a person's name, caused, and the requests that were refused; table `entries`.

The log itself is the record; this index makes it quick to read. An action is an event's wire type without prefix and version:
`video.edited`. Values that events give to fields are kept even when no person is known, as on older logs: readers show what a
field was before (`page`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from psycopg import AsyncConnection
from pydantic import TypeAdapter

from events.access import AccessEvent, AccessRefused
from events.actors import is_person
from events.envelope import Recorded
from events.failures import FailureEvent, FailureRerun, FailureResolved
from events.jobs import (
    CancelRequested,
    ClaimRequested,
    ClaimWithdrawn,
    ClockTicked,
    JobRequest,
    JobSubmitted,
    LeaseReleased,
    LeaseRenewed,
    PartReported,
    PauseRequested,
    RequeueRequested,
    ResultReported,
    ResumeRequested,
    RetryRequested,
)
from events.people import (
    FactorAdded,
    FactorRemoved,
    InvitationMade,
    PasswordChanged,
    PersonEvent,
    ProviderLinked,
    RoleChanged,
    SessionEnded,
    SessionOpened,
    TokenMade,
    TokenRevoked,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from events.settings import SettingChanged, SettingEvent, SettingReset
from events.topics import ACCESS, FAILURES, JOB_REQUESTS, PEOPLE, SETTINGS, VIDEOS, VIEWERS, WEBHOOKS, WORKERS
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoEvent,
    VideoFailed,
    VideoPlanned,
    VideoProbed,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
    VideoVisibilityChanged,
)
from events.viewers import ViewerEvent, ViewerForgotten
from events.webhooks import RedeliveryRequested, WebhookDeleted, WebhookEvent, WebhookSaved, WebhookTestRequested
from events.workers import (
    WorkerCleared,
    WorkerDeployed,
    WorkerDrained,
    WorkerKeyEvent,
    WorkerKeyIssued,
    WorkerKeyRevoked,
    WorkerKeyRotated,
    WorkerLife,
    WorkerOffline,
    WorkerQuarantined,
    WorkerRegistered,
    WorkerRequestRefused,
    WorkerRolledBack,
)
from projections.folding.fold import Projection, Table, table_row
from projections.folding.queries import load

OfWorkers = WorkerLife | WorkerDeployed | WorkerRolledBack | WorkerKeyEvent | WorkerRequestRefused
Audited = VideoEvent | JobRequest | OfWorkers | FailureEvent | AccessEvent | PersonEvent | SettingEvent | ViewerEvent | WebhookEvent
REASON_MAX = 500
GIVEN_TO_ENDPOINTS = {"name", "origin", "events", "active", "format", "headers", "fingerprint"}
"""Fields of an endpoint that a person decides."""
GIVEN = {"title", "description", "visibility", "roles", "users"}
"""Fields of a video that a person decides."""
_SQL = load(Path(__file__).with_name("audit.sql"))


@table_row
class Entry:
    """One event: who did what to which object, and the values that its fields got.

    `shown` is false for an event without a known person that is kept for its `values` only.
    """

    id: str
    topic: str
    partition: int
    offset: int
    time: datetime
    actor: str | None
    client: str | None
    action: str
    object_kind: str
    object_id: str
    shown: bool
    refused: bool
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)


class About(NamedTuple):
    """The object of an event, the reason that a person gave, and the values that fields of the object got."""

    kind: str
    id: str
    reason: str = ""
    values: Mapping[str, Any] = {}
    refused: bool = False


def about(event: Audited) -> About:
    """Return what an event is about. Pure."""
    match event:
        case VideoUploaded() | VideoEdited() | VideoVisibilityChanged():
            return About("video", event.video_id, values=event.model_dump(mode="json", include=GIVEN, exclude_none=True))
        case UploadAbandoned() | VideoRetryRequested():
            return About("video", event.video_id, event.reason)
        case (
            UploadStarted()
            | VideoProbed()
            | VideoPlanned()
            | VideoPublished()
            | VideoFailed()
            | VideoArchived()
            | VideoRestored()
            | VideoPurged()
        ):
            return About("video", event.video_id)
        case CancelRequested() | RetryRequested() | LeaseReleased():
            return About("job", event.job_id, event.reason)
        case RequeueRequested():
            return About("job", event.job_id, event.reason, {"priority": event.priority} if event.priority else {})
        case JobSubmitted() | LeaseRenewed() | ResultReported() | PartReported():
            return About("job", event.job_id)
        case PauseRequested() | ResumeRequested():
            paused = {"paused": isinstance(event, PauseRequested)}
            if event.worker_id is not None:
                return About("worker", event.worker_id, event.reason, paused)
            return About("pool", event.pool, event.reason, paused)
        case ClaimRequested() | ClaimWithdrawn() | ClockTicked():
            return About("pool", event.pool)
        case WorkerRequestRefused():
            return About("worker", event.worker_id, f"{event.status} {event.reason}, {event.count} ×", refused=True)
        case AccessRefused():
            reason = f"{event.status} {event.reason}, {event.method} {event.route}, {event.count} ×"
            return About("app", event.app, reason, refused=True)
        case WorkerKeyRevoked() | WorkerDrained() | WorkerCleared() | WorkerRolledBack():
            return About("worker", event.worker_id, event.reason)
        case WorkerRegistered() | WorkerOffline() | WorkerQuarantined() | WorkerDeployed() | WorkerKeyIssued() | WorkerKeyRotated():
            return About("worker", event.worker_id)
        case TokenMade() | TokenRevoked():
            return About("token", event.token_id)
        case RoleChanged() | UserCreated():
            return About("user", event.user_id, values={"role": event.role})
        case UserDisabled():
            return About("user", event.user_id, event.reason, {"disabled": True})
        case UserEnabled():
            return About("user", event.user_id, values={"disabled": False})
        case SessionOpened():
            return About("user", event.user_id, event.how)
        case SessionEnded():
            return About("user", event.user_id, event.because)
        case UserDeleted() | PasswordChanged() | InvitationMade() | FactorAdded() | FactorRemoved() | ProviderLinked():
            return About("user", event.user_id)
        case SettingChanged():
            return About("setting", event.name, event.reason, {"value": None if event.sealed else event.value})
        case SettingReset():
            return About("setting", event.name, event.reason, {"value": None})
        case ViewerForgotten():
            return About("viewer", event.viewer_id, event.reason)
        case WebhookSaved() | WebhookDeleted() | WebhookTestRequested() | RedeliveryRequested():
            return About("webhook", event.endpoint_id, values=event.model_dump(mode="json", include=GIVEN_TO_ENDPOINTS))
        case FailureResolved():
            return About("failure", event.failure_id, event.reason)
        case FailureRerun():
            return About("failure", event.failure_id, values={"verdict": event.verdict})
        case _:
            assert_never(event)


def action_of(wire_type: str) -> str:
    """Return an event's action: `kinolog.video.edited.v1` -> `video.edited`."""
    return ".".join(wire_type.split(".")[1:-1])


def keys_of(recorded: Recorded[Audited]) -> Collection[tuple[str]]:
    """Return the event's id, when a person caused it, it was a refusal, or it gave values to fields."""
    event, actor = recorded.envelope.data, recorded.envelope.actor
    valued = isinstance(event, VideoUploaded | VideoEdited | VideoVisibilityChanged | PersonEvent | SettingEvent | WebhookEvent)
    refused = isinstance(event, AccessRefused | WorkerRequestRefused)
    return ((recorded.envelope.id,),) if valued or refused or is_person(actor) else ()


def evolve(entry: Entry | None, recorded: Recorded[Audited]) -> Entry | None:
    """Index the event, once: a repeat keeps the first position."""
    if entry is not None:
        return entry
    envelope = recorded.envelope
    found = about(envelope.data)
    return Entry(
        envelope.id,
        recorded.topic,
        recorded.partition,
        recorded.offset,
        envelope.time,
        envelope.actor,
        envelope.client,
        action_of(envelope.data.TYPE),
        found.kind,
        found.id,
        found.refused or is_person(envelope.actor),
        found.refused,
        found.reason[:REASON_MAX],
        found.values,
    )


PROJECTION = Projection(
    "audit",
    (VIDEOS, JOB_REQUESTS, WORKERS, FAILURES, ACCESS, PEOPLE, SETTINGS, VIEWERS, WEBHOOKS),
    (Table("entries", Entry, ("id",), keys_of, evolve),),
    _SQL["create"],
)

# --- readers --------------------------------------------------------------------------------------------------------


@table_row
class Shown(Entry):
    """An entry, with the values that the fields of its object had before; null: none is known."""

    before: Mapping[str, Any] = field(default_factory=dict)


_SHOWN = TypeAdapter(Shown)


async def page(
    connection: AsyncConnection[Any],
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    actor: str | None = None,
    action: str | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Shown]:
    """Return entries, newest first.

    `actor` and `action` are whole or a beginning: `user:0190…` or `user`, `video.edited` or `video`.
    """
    time, id_ = after or (None, None)
    given = {"actor": actor, "action": action, "object": object_id, "since": since, "until": until}
    cursor = await connection.execute(_SQL["page"], given | {"limit": limit, "time": time, "id": id_})
    return [_SHOWN.validate_json(text) for (text,) in await cursor.fetchall()]

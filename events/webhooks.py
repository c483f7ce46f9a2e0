"""Webhooks: receivers outside to which events are sent; topic `webhooks`, key = endpoint_id. People decide what is here.

The address of an endpoint, its headers and its secrets lie in PostgreSQL outside the log, sealed; `fingerprint` names the version
of them that an event is about. `events.deliveries` has what became of it.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from events.envelope import Event
from events.text import machine_line

Word = Annotated[str, machine_line(100)]
Format = Literal["standard", "vlog"]
"""Body and signature: as Standard Webhooks 1.0.0 has them, or as VLog did (`X-VLog-Signature: sha256=…`)."""
GLOBS_MAX = 20


class WebhookSaved(Event, type="kinolog.webhook.saved.v1"):
    """An endpoint is new or has changed. `version` counts its changes; the highest is in force, of equal ones the first.

    `events` are globs over the types of notices, such as `video.*`. `origin` is scheme, host and port of the address.
    An endpoint that is not `active` is paused: it keeps its place, and gets later what it missed.
    """

    endpoint_id: str
    version: int = Field(ge=1)
    name: str = Field(max_length=100)
    origin: str = Field(max_length=300)
    events: tuple[Word, ...] = Field(max_length=GLOBS_MAX)
    active: bool = True
    format: Format = "standard"
    headers: tuple[Word, ...] = Field((), max_length=20)
    fingerprint: str = Field(max_length=64)


class WebhookDeleted(Event, type="kinolog.webhook.deleted.v1"):
    """An endpoint is gone for good, and so are its address and secrets."""

    endpoint_id: str


class WebhookTestRequested(Event, type="kinolog.webhook.test-requested.v1"):
    """A person wants to see whether an endpoint answers: one message, once, that says it is a test."""

    endpoint_id: str
    request_id: str
    event_type: Word = "video.ready"


class RedeliveryRequested(Event, type="kinolog.webhook.redelivery-requested.v1"):
    """A person wants notices sent again: the one that caused the event `event_id`, once; or all since a time, or from a position.

    The latter sets the endpoint back (or forward): it goes on from there, in order. `position` is an offset of topic `notices`.
    """

    endpoint_id: str
    request_id: str
    event_id: str | None = None
    since: AwareDatetime | None = None
    position: int | None = Field(None, ge=0)


WebhookEvent = WebhookSaved | WebhookDeleted | WebhookTestRequested | RedeliveryRequested

"""Deliveries: what became of notices at each endpoint; topic `deliveries`, key = endpoint_id. Only the deliverer writes here.

`sequence` counts the facts about an endpoint, so that folds know a repeated one. `position` is the offset of a notice.
"""

from typing import Annotated

from pydantic import AwareDatetime, Field

from events.envelope import Event
from events.text import machine_line, machine_prose

ANSWER_MAX = 2000
Answer = Annotated[str, machine_prose(ANSWER_MAX)]
"""The first characters of an answer's body."""
Reason = Annotated[str, machine_line(500)]
Duration = Annotated[int, Field(ge=0)]


class DeliveryFailed(Event, type="kinolog.delivery.failed.v1"):
    """An attempt failed. It is tried again at `retry_at`; without that time, no more.

    `status` is None without an answer. `away`: the endpoint could not take any message; otherwise it refused this one.
    `request_id` names the wish of a person who had it sent again.
    """

    endpoint_id: str
    sequence: int = Field(ge=1)
    delivery_id: str
    event_id: str
    event_type: str
    position: int
    attempt: int = Field(ge=1)
    status: int | None = None
    error: Reason = ""
    answer: Answer = ""
    duration_ms: Duration = 0
    away: bool = False
    retry_at: AwareDatetime | None = None
    request_id: str | None = None


class Delivered(Event, type="kinolog.delivery.delivered.v1"):
    """The endpoint has taken a notice: it answered with a status of 200 to 299."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    delivery_id: str
    event_id: str
    event_type: str
    position: int
    attempt: int = Field(ge=1)
    status: int
    answer: Answer = ""
    duration_ms: Duration = 0
    request_id: str | None = None


class DeliveryGivenUp(Event, type="kinolog.delivery.given-up.v1"):
    """The endpoint refused a notice at every attempt; the next one is sent."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    delivery_id: str
    position: int
    attempts: int


class BreakerOpened(Event, type="kinolog.delivery.breaker-opened.v1"):
    """The endpoint was away at too many attempts in a row: nothing is sent before `until`."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    failures: int
    until: AwareDatetime


class BreakerHalfOpened(Event, type="kinolog.delivery.breaker-half-opened.v1"):
    """The time is over: one attempt shows whether the endpoint is back."""

    endpoint_id: str
    sequence: int = Field(ge=1)


class BreakerClosed(Event, type="kinolog.delivery.breaker-closed.v1"):
    """The endpoint answers again."""

    endpoint_id: str
    sequence: int = Field(ge=1)


class EndpointGone(Event, type="kinolog.delivery.endpoint-gone.v1"):
    """The endpoint answered 410: nothing is sent to this version of it, nor to earlier ones. It keeps its place."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    version: int


class CursorMoved(Event, type="kinolog.delivery.cursor-moved.v1"):
    """The endpoint goes on from `position`, as a person wished."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    request_id: str
    position: int


class WishRefused(Event, type="kinolog.delivery.wish-refused.v1"):
    """A wish of a person cannot be met, such as for a notice that is not there."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    request_id: str
    reason: Reason


class EndpointTested(Event, type="kinolog.delivery.endpoint-tested.v1"):
    """A test was sent, and how the endpoint answered. It does not count as a delivery."""

    endpoint_id: str
    sequence: int = Field(ge=1)
    request_id: str
    event_type: str
    status: int | None = None
    error: Reason = ""
    answer: Answer = ""
    duration_ms: Duration = 0


DeliveryEvent = (
    DeliveryFailed
    | Delivered
    | DeliveryGivenUp
    | BreakerOpened
    | BreakerHalfOpened
    | BreakerClosed
    | EndpointGone
    | CursorMoved
    | WishRefused
    | EndpointTested
)

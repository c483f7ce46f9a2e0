"""Endpoints, notices and facts of deliveries, for tests of folds and decisions."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from events.deliveries import DeliveryEvent
from events.envelope import Envelope, Event, Recorded
from events.notices import NoticePublished, NoticeType, VideoNotice
from events.topics import TOPIC_OF
from events.webhooks import Format, WebhookSaved
from projections.deliveries.endpoints import Endpoint, Place, evolve_endpoint, evolve_progress

ENDPOINT = "0192f0a1-7c3e-7d10-9a55-5b1f0c2d3e4f"
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def saved(
    version: int = 1,
    *,
    endpoint_id: str = ENDPOINT,
    events: tuple[str, ...] = ("*",),
    active: bool = True,
    format_: Format = "standard",
    fingerprint: str = "f1",
) -> WebhookSaved:
    return WebhookSaved(
        endpoint_id=endpoint_id,
        version=version,
        name="receiver",
        origin="http://127.0.0.1",
        events=events,
        active=active,
        format=format_,
        fingerprint=fingerprint,
    )


def recorded(event: Event, number: int = 0, time: datetime = NOW) -> Recorded[Event]:
    """Return an event as it stands on the log, with an id of its number."""
    subject = str(getattr(event, "endpoint_id", getattr(event, "subject_id", "")))
    id_ = f"00000000-0000-7000-8000-{number:012x}"
    return Recorded(TOPIC_OF[event.TYPE].name, 0, number, Envelope(id_, "test", subject, time, event, id_))


def endpoint(*events: Event, row: Endpoint | None = None, time: datetime = NOW) -> Endpoint:
    """Return the row that events fold into."""
    for number, event in enumerate(events):
        row = evolve_endpoint(row, recorded(event, number, time))  # type: ignore[arg-type]
    assert row is not None
    return row


def after(row: Endpoint, facts: Iterable[DeliveryEvent], time: datetime = NOW) -> Endpoint:
    """Return a row after facts of the deliverer."""
    for fact in facts:
        row = evolve_progress(row, fact, time)
    return row


def notice(number: int = 0, event_type: NoticeType = "video.ready", occurred_at: datetime | None = None) -> NoticePublished:
    """Return a notice of a video of its own."""
    return NoticePublished(
        subject_id=f"video-{number}",
        number=1,
        event_id=f"event-{number}",
        event_type=event_type,
        occurred_at=occurred_at or NOW + timedelta(seconds=number),
        about=VideoNotice(video_id=f"video-{number}", slug=f"slug-{number}", title=f"Title {number}"),
    )


def place(position: int = 0, event_type: NoticeType = "video.ready") -> Place:
    """Return a notice at a position."""
    return Place(position, notice(position, event_type))

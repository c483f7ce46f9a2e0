"""Messages to endpoints: body, headers and signature of one attempt. Pure.

`standard`: the body is `{type, timestamp, data}`, signed as Standard Webhooks 1.0.0 has it, by every secret that is valid.
`vlog`: the body is `{id, event, timestamp, attempt, data}`, signed by `X-VLog-Signature: sha256=…` over the body.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from standardwebhooks import Webhook

from events.notices import NoticePublished
from events.webhooks import Format
from producers.webhooks import Kept

TEST_DATA: Mapping[str, Any] = {"test": True, "video_id": "", "slug": "test", "title": "A test"}


@dataclass(frozen=True)
class Content:
    """The content of a message: a type of the catalogue, when it happened, and its data."""

    type: str
    occurred_at: datetime
    data: Mapping[str, Any]
    is_test: bool = False


@dataclass(frozen=True)
class Message:
    """One attempt, ready to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def content_of(notice: NoticePublished) -> Content:
    """Return the content of a notice."""
    return Content(notice.event_type, notice.occurred_at, notice.about.model_dump(mode="json", exclude_none=True))


def compose(kept: Kept, format_: Format, content: Content, delivery_id: str, attempt: int, now: datetime) -> Message | None:
    """Return the message of an attempt, signed now; None when no secret is valid: nothing is sent without a signature."""
    valid = kept.valid(now)
    if not valid:
        return None
    headers = {
        **kept.headers,
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": "Kinolog-Webhooks/1",
    }
    if format_ == "standard":
        body = orjson.dumps({"type": content.type, "timestamp": _text(content.occurred_at), "data": content.data})
        headers |= {
            "webhook-id": delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(
                Webhook(secret).sign(delivery_id, now.astimezone(UTC), body.decode()) for secret in valid
            ),
        }
        return Message(kept.url, headers, body)
    timestamp = _text(now)
    fields = {"id": delivery_id, "event": content.type, "timestamp": timestamp, "attempt": attempt, "data": content.data}
    body = orjson.dumps(fields)
    headers |= {
        "x-vlog-event": content.type,
        "x-vlog-delivery-id": delivery_id,
        "x-vlog-timestamp": timestamp,
        "x-vlog-signature": "sha256=" + hmac.digest(valid[0].encode(), body, "sha256").hex(),
    }
    if content.is_test:
        headers["x-vlog-test"] = "true"
    return Message(kept.url, headers, body)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

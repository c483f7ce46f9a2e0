"""Times given by clients: in UTC, and within the range of the log, the database and the clock."""

from datetime import UTC, datetime

from events.errors import InvalidRequest

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)


def time_of(text: str, name: str) -> datetime:
    """Read an ISO 8601 time, UTC unless it names a zone. Raises InvalidRequest with `name` as the subject."""
    try:
        time = datetime.fromisoformat(text)
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name} wants a time, as 2026-11-21T12:00:00Z") from error
    if not FIRST <= time <= LAST:
        raise InvalidRequest(f"{name} wants a time from {FIRST.year} to {LAST.year}")
    return time

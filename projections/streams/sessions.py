"""Stream sessions: one row each, folded from topic `streams`.

Time watched is measured between two signs of life, by the events' own times: at most the time that passed while the player played
and did not stall, and at most what the position moved on. Nothing that a client says can make it longer than the time on the wall.
A session ends by its own event, or at its last sign of life when none came for `Rules.expiry_ms`; later ones do not revive it.
"""

from collections.abc import Collection, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from events.envelope import Recorded
from events.streams import Playback, PlayState, StreamEnded, StreamEvent, StreamFailed, StreamServed, StreamStarted, StreamTicked
from projections.folding.fold import replace, table_row
from projections.streams.rules import Rules, by_day, day_of

MILLISECOND = timedelta(milliseconds=1)
SERVERS_MAX = 64
"""Servers that a session remembers; what further ones send is not counted."""
DAYS_MAX = 32
"""Days over which a session's sums are kept apart; later ones count for the last of them."""
End = Literal["client", "expired", "failed"]


@table_row
class Session:
    """One session. `shard` is its partition. `seen_at` is its last sign of life, at `position_ms`, in `state`.

    `watched` and `served` are milliseconds and bytes by local day; `served_by` bytes by server.
    """

    session_id: str
    viewer_id: str
    video_id: str
    shard: int
    playback: Playback
    started_at: datetime
    seen_at: datetime
    first_ms: int
    position_ms: int
    furthest_ms: int
    media_ms: int | None = None
    quality: str | None = None
    codec: str | None = None
    resolution: str | None = None
    container: str | None = None
    client: str | None = None
    state: PlayState = "playing"
    rate: float = 1.0
    start_up_ms: int | None = None
    stalled_ms: int = 0
    switches: int = 0
    errors: int = 0
    ended_at: datetime | None = None
    end: End | None = None
    fault: str | None = None
    watched_ms: int = 0
    bytes_served: int = 0
    bytes_redirected: int = 0
    watched: Mapping[str, int] = field(default_factory=dict)
    served: Mapping[str, int] = field(default_factory=dict)
    served_by: Mapping[str, int] = field(default_factory=dict)


def session_keys(recorded: Recorded[StreamEvent]) -> Collection[tuple[str]]:
    """Return the key of the event's session."""
    return ((recorded.envelope.data.session_id,),)


def evolve_session(session: Session | None, recorded: Recorded[StreamEvent], rules: Rules) -> Session | None:
    """Fold one event; a repeated one changes nothing."""
    event, time = recorded.envelope.data, recorded.envelope.time
    if isinstance(event, StreamStarted):
        return session or _started(event, time, recorded.partition)
    if session is None:
        return None
    if isinstance(event, StreamServed):
        return _served(session, event, time, rules)
    if session.ended_at is not None or (isinstance(event, StreamTicked) and time <= session.seen_at):
        return session  # it is over, or a repetition
    time = max(time, session.seen_at)
    if time - session.seen_at > rules.expiry_ms * MILLISECOND:
        return replace(session, ended_at=session.seen_at, end="expired")
    match event:
        case StreamTicked():
            return _ticked(session, event, time, rules)
        case StreamEnded(why="expired"):
            return replace(session, ended_at=session.seen_at, end="expired")
        case StreamEnded():
            moved = _moved(session, event.position_ms, session.stalled_ms, time, rules)
            return replace(session, **moved, ended_at=time, end="client")
        case StreamFailed():
            moved = _moved(session, event.position_ms, session.stalled_ms, time, rules)
            return replace(session, **moved, ended_at=time, end="failed", fault=event.fault)
        case _:
            assert_never(event)


def _started(event: StreamStarted, time: datetime, partition: int) -> Session:
    return Session(
        session_id=event.session_id,
        viewer_id=event.viewer_id,
        video_id=event.video_id,
        shard=partition,
        playback=event.playback,
        started_at=time,
        seen_at=time,
        first_ms=event.position_ms,
        position_ms=event.position_ms,
        furthest_ms=event.position_ms,
        media_ms=event.media_ms,
        quality=event.quality,
        codec=event.codec,
        resolution=event.resolution,
        container=event.container,
        client=event.client,
    )


def _ticked(session: Session, event: StreamTicked, time: datetime, rules: Rules) -> Session:
    return replace(
        session,
        **_moved(session, event.position_ms, event.stalled_ms, time, rules),
        state=event.state,
        rate=event.rate,
        quality=event.quality or session.quality,
        start_up_ms=session.start_up_ms if event.start_up_ms is None else event.start_up_ms,
        stalled_ms=max(session.stalled_ms, event.stalled_ms),
        switches=max(session.switches, event.switches),
        errors=max(session.errors, event.errors),
    )


def _moved(session: Session, position_ms: int | None, stalled_ms: int, time: datetime, rules: Rules) -> dict[str, Any]:
    """Return the changes of a session at a new position, with the time watched since its last sign of life."""
    position_ms = session.position_ms if position_ms is None else position_ms
    if session.media_ms is not None:
        position_ms = min(position_ms, session.media_ms)
    watched = _watched_ms(session, position_ms, stalled_ms, time)
    days = dict(session.watched)
    for day, part in by_day(watched, session.seen_at, time, rules.zone):
        _add(days, day.isoformat(), part)
    return {
        "seen_at": time,
        "position_ms": position_ms,
        "furthest_ms": max(session.furthest_ms, position_ms),
        "watched_ms": session.watched_ms + watched,
        "watched": days,
    }


def _watched_ms(session: Session, position_ms: int, stalled_ms: int, time: datetime) -> int:
    """Return the milliseconds watched since the last sign of life."""
    if session.state != "playing":
        return 0
    wall_ms = (time - session.seen_at) // MILLISECOND - max(stalled_ms - session.stalled_ms, 0)
    return max(min(wall_ms, round((position_ms - session.position_ms) / session.rate)), 0)


def _served(session: Session, event: StreamServed, time: datetime, rules: Rules) -> Session:
    before = session.served_by.get(event.server)
    more = event.bytes_served - (before or 0)
    if more <= 0 or (before is None and len(session.served_by) >= SERVERS_MAX):
        return session
    days = dict(session.served)
    _add(days, day_of(time, rules.zone).isoformat(), more)
    return replace(
        session,
        bytes_served=session.bytes_served + (more if event.exact else 0),
        bytes_redirected=session.bytes_redirected + (0 if event.exact else more),
        served=days,
        served_by={**session.served_by, event.server: event.bytes_served},
    )


def _add(days: dict[str, Any], day: str, amount: int) -> None:
    """Add to a day's amount; once there are enough days, to the last of them."""
    if amount:
        if day not in days and len(days) >= DAYS_MAX:
            day = max(days)
        days[day] = days.get(day, 0) + amount

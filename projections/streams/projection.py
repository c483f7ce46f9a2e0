"""Streams: sessions, plays, and their sums by viewer, video and day; folded from topic `streams`."""

from functools import cache, partial
from pathlib import Path

from events.topics import STREAMS
from projections.folding.fold import ChangesOf, Projection, Table
from projections.folding.queries import load
from projections.folding.sums import sums
from projections.streams.plays import (
    Day,
    VideoDay,
    VideoTotal,
    ViewerDay,
    Watching,
    days,
    evolve_watching,
    video_days,
    video_totals,
    viewer_days,
    watching_keys,
)
from projections.streams.rules import Rules, rules_of
from projections.streams.sessions import Session, evolve_session, session_keys

_SQL = load(Path(__file__).with_name("projection.sql"))


@cache
def streams(rules: Rules) -> Projection:
    """Return the projection under these rules."""
    return Projection(
        "streams",
        (STREAMS,),
        (
            Table("sessions", Session, ("session_id",), session_keys, partial(evolve_session, rules=rules)),
            Table(
                "watching",
                Watching,
                ("viewer_id", "video_id"),
                watching_keys,
                partial(evolve_watching, rules=rules),
                ChangesOf("sessions", lambda change: (change,)),
            ),
            sums("viewer_days", ViewerDay, ("viewer_id", "day", "shard"), "watching", viewer_days),
            sums("days", Day, ("day", "shard"), "viewer_days", days),
            sums("video_days", VideoDay, ("video_id", "day", "shard"), "watching", video_days),
            sums("video_totals", VideoTotal, ("video_id", "shard"), "watching", video_totals),
        ),
        _SQL["create"],
        partitioned=True,
        rules=tuple(rules._asdict().items()),
        under=lambda known: streams(rules_of(dict(known))),
    )


PROJECTION = streams(Rules())

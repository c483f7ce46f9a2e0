"""Plays: the sessions of one viewer with one video, merged; and the sums over them by viewer, video and day.

A session that begins where the last one stopped, or a little before, goes on with its play, however much later: a film that is
resumed is one play. A play that was watched for too short a time is none; its time and bytes count all the same.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, field, fields, replace
from datetime import date, datetime

from events.streams import Playback
from projections.folding.fold import Change, table_row
from projections.streams.rules import Rules, day_of
from projections.streams.sessions import Session

STINTS_MAX = 20
"""Sessions of one viewer with one video that are kept apart; older plays are summed up."""


@table_row
class Numbers:
    """Sums of plays. A play counts on the day on which it began; time and bytes count when they passed."""

    plays: int = 0
    completed: int = 0
    direct_plays: int = 0
    direct_streams: int = 0
    transcodes: int = 0
    failed: int = 0
    watched_ms: int = 0
    bytes_served: int = 0


AMOUNTS = tuple(field.name for field in fields(Numbers))


@table_row
class Stint:
    """One session as plays see it."""

    session_id: str
    started_at: datetime
    playback: Playback
    first_ms: int
    last_ms: int
    furthest_ms: int
    media_ms: int | None
    failed: bool
    watched: Mapping[str, int]
    served: Mapping[str, int]


@table_row
class Watching:
    """One viewer and one video: the sessions in order, the sums of older plays by day, and those of all plays, `days`."""

    viewer_id: str
    video_id: str
    shard: int
    stints: tuple[Stint, ...] = ()
    older: Mapping[str, Numbers] = field(default_factory=dict)
    days: Mapping[str, Numbers] = field(default_factory=dict)


def watching_keys(change: Change[Session]) -> tuple[tuple[str, str]]:
    """Return the viewer and the video of a changed session."""
    session = change.after or change.before
    assert session is not None
    return ((session.viewer_id, session.video_id),)


def evolve_watching(row: Watching | None, change: Change[Session], rules: Rules) -> Watching | None:
    """Put a session's new state among the others."""
    session = change.after
    assert session is not None, "sessions are never deleted"
    row = row or Watching(session.viewer_id, session.video_id, session.shard)
    stint = _stint_of(session)
    if any(known.session_id == stint.session_id for known in row.stints):
        stints = tuple(stint if known.session_id == stint.session_id else known for known in row.stints)
        changed = replace(row, stints=stints)
    elif change.before is None:
        stints = tuple(sorted((*row.stints, stint), key=lambda one: (one.started_at, one.session_id)))
        changed = _bounded(replace(row, stints=stints), rules)
    else:  # it was summed up among the older plays
        changed = _later_changed(row, _stint_of(change.before), stint)
    return row if changed == row else replace(changed, days=_sums(changed, rules))


def _stint_of(session: Session) -> Stint:
    return Stint(
        session_id=session.session_id,
        started_at=session.started_at,
        playback=session.playback,
        first_ms=session.first_ms,
        last_ms=session.position_ms,
        furthest_ms=session.furthest_ms,
        media_ms=session.media_ms,
        failed=session.end == "failed",
        watched=session.watched,
        served=session.served,
    )


def plays_of(stints: Sequence[Stint], rules: Rules) -> list[list[Stint]]:
    """Group sessions, in the order of their beginnings, into plays."""
    plays: list[list[Stint]] = []
    for stint in stints:
        if plays and _goes_on(plays[-1], stint, rules):
            plays[-1].append(stint)
        else:
            plays.append([stint])
    return plays


def _goes_on(play: Sequence[Stint], stint: Stint, rules: Rules) -> bool:
    return not _is_completed(play, rules) and stint.first_ms >= play[-1].last_ms - rules.back_max_ms


def _is_completed(play: Sequence[Stint], rules: Rules) -> bool:
    return any(one.media_ms and one.furthest_ms * 100 >= one.media_ms * rules.completed_percent for one in play)


def _counts(play: Sequence[Stint], rules: Rules) -> bool:
    lengths = [one.media_ms // 2 for one in play if one.media_ms]
    return sum(sum(one.watched.values()) for one in play) >= min([rules.watched_min_ms, *lengths])


def _sums(row: Watching, rules: Rules) -> dict[str, Numbers]:
    days = dict(row.older)
    for play in plays_of(row.stints, rules):
        _sum_up(play, days, rules)
    return days


def _sum_up(play: Sequence[Stint], days: dict[str, Numbers], rules: Rules) -> None:
    for stint in play:
        for day, watched in stint.watched.items():
            _plus(days, day, Numbers(watched_ms=watched))
        for day, served in stint.served.items():
            _plus(days, day, Numbers(bytes_served=served))
        if stint.failed:
            _plus(days, day_of(stint.started_at, rules.zone).isoformat(), Numbers(failed=1))
    if _counts(play, rules):
        kind = play[0].playback
        counted = Numbers(
            plays=1,
            completed=int(_is_completed(play, rules)),
            direct_plays=int(kind == "direct_play"),
            direct_streams=int(kind == "direct_stream"),
            transcodes=int(kind == "transcode"),
        )
        _plus(days, day_of(play[0].started_at, rules.zone).isoformat(), counted)


def _plus(days: dict[str, Numbers], day: str, more: Numbers) -> None:
    days[day] = added((days[day], more)) if day in days else more


def _bounded(row: Watching, rules: Rules) -> Watching:
    """Sum up the oldest plays, or join the oldest sessions of the only play, while there are too many."""
    while len(row.stints) > STINTS_MAX:
        play, *later = plays_of(row.stints, rules)
        if later:
            days = dict(row.older)
            _sum_up(play, days, rules)
            row = replace(row, stints=row.stints[len(play) :], older=days)
        else:
            first, second, *rest = row.stints
            row = replace(row, stints=(_joined(first, second), *rest))
    return row


def _later_changed(row: Watching, before: Stint, after: Stint) -> Watching:
    """Count what an older session still brought; whether its play counts stays as it was decided."""
    days = dict(row.older)
    for day in {**before.watched, **after.watched}:
        _plus(days, day, Numbers(watched_ms=after.watched.get(day, 0) - before.watched.get(day, 0)))
    for day in {**before.served, **after.served}:
        _plus(days, day, Numbers(bytes_served=after.served.get(day, 0) - before.served.get(day, 0)))
    return replace(row, older=days)


def _joined(first: Stint, second: Stint) -> Stint:
    return replace(
        first,
        last_ms=second.last_ms,
        furthest_ms=max(first.furthest_ms, second.furthest_ms),
        failed=first.failed or second.failed,
        watched=_added(first.watched, second.watched),
        served=_added(first.served, second.served),
    )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {day: one.get(day, 0) + other.get(day, 0) for day in {**one, **other}}


# --- sums -----------------------------------------------------------------------------------------------------------


@table_row
class Figures(Numbers):
    """Sums over viewers. `viewers` had a play; they are distinct within one day or one video."""

    viewers: int = 0


@table_row
class ViewerDay(Numbers):
    """A viewer's sums of one day."""

    _: KW_ONLY
    viewer_id: str
    day: date
    shard: int


@table_row
class Day(Figures):
    """All viewers' sums of one day, of one partition."""

    _: KW_ONLY
    day: date
    shard: int


@table_row
class VideoDay(Figures):
    """One video's sums of one day, of one partition."""

    _: KW_ONLY
    video_id: str
    day: date
    shard: int


@table_row
class VideoTotal(Figures):
    """One video's sums of all days, of one partition."""

    _: KW_ONLY
    video_id: str
    shard: int


def viewer_days(row: Watching) -> Iterator[ViewerDay]:
    """Yield the shares of a viewer and a video in the viewer's days."""
    for day, numbers in row.days.items():
        yield ViewerDay(**_amounts(numbers), viewer_id=row.viewer_id, day=date.fromisoformat(day), shard=row.shard)


def days(row: ViewerDay) -> Iterator[Day]:
    """Yield the share of a viewer's day in everybody's."""
    yield Day(**_amounts(row), viewers=int(row.plays > 0), day=row.day, shard=row.shard)


def video_days(row: Watching) -> Iterator[VideoDay]:
    """Yield the shares of a viewer and a video in the video's days."""
    for day, numbers in row.days.items():
        viewers, of = int(numbers.plays > 0), date.fromisoformat(day)
        yield VideoDay(**_amounts(numbers), viewers=viewers, video_id=row.video_id, day=of, shard=row.shard)


def video_totals(row: Watching) -> Iterator[VideoTotal]:
    """Yield the share of a viewer and a video in the video's totals."""
    if row.days:
        total = added(row.days.values())
        yield VideoTotal(**_amounts(total), viewers=int(total.plays > 0), video_id=row.video_id, shard=row.shard)


def added(all_of: Collection[Numbers]) -> Numbers:
    """Return the sums of several rows; of viewers nothing, as one may be behind each of them."""
    return Numbers(*(sum(getattr(one, name) for one in all_of) for name in AMOUNTS))


def _amounts(row: Numbers) -> dict[str, int]:
    return {name: getattr(row, name) for name in AMOUNTS}

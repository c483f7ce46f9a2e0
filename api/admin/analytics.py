"""For administrators: figures of viewing under the predecessor's paths, in its envelope `{success, data}`.

Times and totals are those of `projections.streams.figures`, days those of the rules of viewing. A bad parameter is refused with its
limit, where the predecessor took its default and said nothing.
"""

from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from api.admin.envelope import Answer, router
from api.admin.hosts import gib, rounded
from api.admin.services import Given, moment, reading, write
from api.examples import VIDEO_ID
from events.days import DayFigures
from events.envelope import Recorded
from events.errors import InvalidRequest
from events.text import Line
from producers import days as closings
from projections.daily import figures as daily
from projections.daily.figures import DayStat
from projections.daily.projection import evolve_closing
from projections.hosts import projection as hosts
from projections.streams import figures
from projections.streams.figures import LIMIT_MAX, Watched
from projections.streams.plays import added
from projections.streams.rules import Rules, day_of, midnight
from projections.streams.sessions import End

routes = router("analytics")
RECENT = 50
DAYS_MAX = 3660
Day = Annotated[date, Field(ge=date(1970, 1, 1), le=date(9000, 12, 31))]
"""A day that has days before and after it."""


class Overview(BaseModel):
    """The figures of now. Today is the local day, the week is it and the seven days before; the machine is the platform's."""

    active_streams: int = Field(examples=[3])
    total_plays_today: int
    total_plays_week: int
    unique_users_today: int
    bandwidth_today_bytes: int
    library_size: int
    storage_used_bytes: int
    transcodes_today: int
    direct_plays_today: int
    failures_today: int = Field(description="Transcodes that failed for good.")
    cpu_percent: float | None
    memory_percent: float | None
    disk_free_gb: float | None


class Streams(BaseModel):
    """Sessions that are active, and the last ones."""

    active: list["StreamSession"]
    recent: list["StreamSession"]


class StreamSession(BaseModel):
    """A session as the predecessor names its fields. `user_id` is the person's; None for a browser, or a forgotten viewer."""

    id: str = Field(examples=["AZ2Hk3cVcQKbq0mYtP8LdQ"])
    user_id: str | None
    viewer_id: str = Field(examples=["cYl1Hk7pQ2mXv0ZtR9sWBA"])
    media_item_id: str = Field(examples=[VIDEO_ID])
    media_title: str | None
    playback_type: str
    quality: str | None
    codec: str | None
    resolution: str | None
    container: str | None
    bytes_served: int
    duration_seconds: int
    client_info: str | None
    started_at: datetime
    ended_at: datetime | None
    is_active: bool
    end: End | None = Field(description="How it ended: by its client, by a fault, or by silence, at its last sign of life.")


class Breakdown(BaseModel):
    """Plays by the way in which they were played."""

    direct_plays: int = Field(examples=[41])
    direct_streams: int
    transcodes: int
    total: int


class WatchActivity(BaseModel):
    """A session in the feed of who watched what."""

    user_id: str | None
    viewer_id: str = Field(examples=["cYl1Hk7pQ2mXv0ZtR9sWBA"])
    media_item_id: str = Field(examples=[VIDEO_ID])
    media_title: str | None
    playback_type: str
    watched_at: datetime
    duration_minutes: int
    completed: bool


class UserActivity(BaseModel):
    """The sums of a viewer. `last_active` is a local day."""

    user_id: str | None
    viewer_id: str = Field(examples=["cYl1Hk7pQ2mXv0ZtR9sWBA"])
    total_plays: int
    total_watch_minutes: int
    last_active: date


class DailyStat(BaseModel):
    """The sums of a local day. Minutes are whole ones."""

    stat_date: date
    total_plays: int = Field(examples=[17])
    unique_users: int
    total_watch_minutes: int
    total_bytes_served: int
    transcodes: int
    direct_plays: int
    direct_streams: int
    transcode_failures: int = Field(description="Encodes that failed for good.")
    new_media_added: int
    library_size_total: int = Field(description="Videos at the end of the day, archived ones too.")
    storage_used_bytes: int = Field(description="Size of their sources.")
    completed_plays: int
    failed_streams: int = Field(description="Sessions that ended by a fault of their player.")
    closed_at: datetime | None = Field(description="When the day was first closed, five minutes after its midnight.")
    as_closed: DayFigures | None = Field(description="The figures as they were known then.")
    closed_positions: dict[str, str] | None = Field(description="Positions on the log that they cover, by projection.")
    restated: bool = Field(description="Whether late events, or other rules, have changed the day since.")


@routes.get("/analytics/overview")
async def overview(given: Given, response: Response) -> Answer[Overview]:
    """Show the figures of now, each as the routes beside this one have it."""
    async with reading(given, response, "daily") as connection:
        now, rules = await moment(given, connection, "streams"), await figures.rules(connection)
        today = day_of(now, rules.zone)
        days = await daily.of_days(connection, today - timedelta(days=7), today, whole=True)
        active = await figures.active(connection, now, rules)
        host = next(iter(await hosts.latest(connection, 1)), None)
    last = days[-1].figures
    machine = hosts.figures_of(host) if host else {}
    return Answer(
        data=Overview(
            active_streams=active,
            total_plays_today=last.total_plays,
            total_plays_week=sum(day.figures.total_plays for day in days),
            unique_users_today=last.unique_users,
            bandwidth_today_bytes=last.total_bytes_served,
            library_size=last.library_size_total,
            storage_used_bytes=last.storage_used_bytes,
            transcodes_today=last.transcodes,
            direct_plays_today=last.direct_plays,
            failures_today=last.transcode_failures,
            cpu_percent=rounded(machine.get("cpu_percent")),
            memory_percent=rounded(machine.get("memory_percent")),
            disk_free_gb=gib(machine.get("disk_free_bytes")),
        )
    )


@routes.get("/analytics/streams")
async def streams(given: Given, response: Response) -> Answer[Streams]:
    """List active sessions, and the last 50."""
    async with reading(given, response, "streams") as connection:
        now, rules = await moment(given, connection, "streams"), await figures.rules(connection)
        active = await figures.sessions(connection, now, rules, limit=LIMIT_MAX, only_active=True)
        recent = await figures.sessions(connection, now, rules, limit=RECENT)
    users = await given.viewers.users({one.viewer_id for one in (*active, *recent)})
    return Answer(data=Streams(active=[_session(one, users) for one in active], recent=[_session(one, users) for one in recent]))


@routes.get("/analytics/streams/breakdown")
async def breakdown(
    given: Given, response: Response, days: Annotated[int, Query(ge=1, le=DAYS_MAX, description="Days up to today.")] = 30
) -> Answer[Breakdown]:
    """Count plays by the way in which they were played."""
    async with reading(given, response, "streams") as connection:
        today = day_of(await moment(given, connection, "streams"), (await figures.rules(connection)).zone)
        found = added(await figures.of_days(connection, today - timedelta(days=days - 1), today))
    kinds = {name: getattr(found, name) for name in ("direct_plays", "direct_streams", "transcodes")}
    return Answer(data=Breakdown(**kinds, total=found.plays))


@routes.get("/analytics/watch-activity")
async def watch_activity(
    given: Given,
    response: Response,
    user_id: Annotated[Line | None, Query(max_length=100, description="A person's id.")] = None,
    first: Annotated[Day | None, Query(alias="from", description="Not before this local day.")] = None,
    last: Annotated[Day | None, Query(alias="to", description="Not after this local day.")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
) -> Answer[list[WatchActivity]]:
    """List who watched what, newest first."""
    viewer_id = None if user_id is None else await given.viewers.viewer_of(user_id) or "nobody"
    _check(first, last)
    async with reading(given, response, "streams") as connection:
        now, rules = await moment(given, connection, "streams"), await figures.rules(connection)
        since = None if first is None else midnight(first, rules.zone)
        before = None if last is None else midnight(last + timedelta(days=1), rules.zone)
        found = await figures.sessions(connection, now, rules, limit=limit, viewer_id=viewer_id, since=since, before=before)
    users = await given.viewers.users({one.viewer_id for one in found})
    return Answer(data=[_activity(one, users, rules) for one in found])


@routes.get("/analytics/users/activity")
async def users_activity(
    given: Given, response: Response, limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100
) -> Answer[list[UserActivity]]:
    """List viewers by the time that they watched."""
    async with reading(given, response, "streams") as connection:
        found = await figures.viewers(connection, limit)
    users = await given.viewers.users({one.viewer_id for one in found})
    return Answer(
        data=[
            UserActivity(
                user_id=users.get(one.viewer_id),
                viewer_id=one.viewer_id,
                total_plays=one.plays,
                total_watch_minutes=one.watched_ms // 60_000,
                last_active=one.last_day,
            )
            for one in found
        ]
    )


@routes.get("/analytics/trends")
async def trends(
    given: Given,
    response: Response,
    first: Annotated[Day | None, Query(alias="from", description="A local day; 29 days before `to` without it.")] = None,
    last: Annotated[Day | None, Query(alias="to", description="A local day; today without it.")] = None,
) -> Answer[list[DailyStat]]:
    """List the sums of days as they are known now, and as they were closed, oldest first; days without anything are left out.

    With `as_of`, they are those that were known then.
    """
    async with reading(given, response, "streams") as connection:
        last = last or day_of(await moment(given, connection, "streams"), (await figures.rules(connection)).zone)
        first = first or last - timedelta(days=29)
        _check(first, last)
        found = await daily.of_days(connection, first, last)
    return Answer(data=[_stat(one) for one in found])


@routes.post("/analytics/rollup")
async def roll_up(
    given: Given, response: Response, day: Annotated[Day, Query(alias="date", description="A local day that is over.")]
) -> Answer[DailyStat]:
    """Count a day again, and close it with the figures of now if they are others; the first closing stays.

    Repeating it gives the same row.
    """
    async with reading(given, response, "daily") as connection:
        zone, now = (await figures.rules(connection)).zone, given.context().now
        if day >= day_of(now, zone):
            raise InvalidRequest(f"{day} is not over in {zone}")
        counted = await daily.count(connection, day)
    closing = counted.stat.closing
    if closing is None or closing.last_figures != counted.stat.figures or closing.zone != counted.zone:
        event = closings.closed(given.context(), day.isoformat(), zone, counted.stat.figures, counted.positions, "asked")
        await write(given, response, [event])
        closing = evolve_closing(closing, Recorded("days", 0, 0, event))
    return Answer(data=_stat(counted.stat.model_copy(update={"closing": closing})))


def _stat(one: DayStat) -> DailyStat:
    closing = one.closing
    return DailyStat(
        stat_date=one.day,
        **one.figures.model_dump(),
        completed_plays=one.completed_plays,
        failed_streams=one.failed_streams,
        closed_at=closing and closing.closed_at,
        as_closed=closing and closing.figures,
        closed_positions=dict(closing.positions) if closing else None,
        restated=one.restated,
    )


def _check(first: date | None, last: date | None) -> None:
    """Raise InvalidRequest for a range of days that is too long, or ends before it begins."""
    if first is not None and last is not None and not timedelta(0) <= last - first <= timedelta(days=DAYS_MAX):
        raise InvalidRequest(f"`to` must be at most {DAYS_MAX} days after `from`, and not before it")


def _session(one: Watched, users: dict[str, str]) -> StreamSession:
    return StreamSession(
        id=one.session_id,
        user_id=users.get(one.viewer_id),
        viewer_id=one.viewer_id,
        media_item_id=one.video_id,
        media_title=one.title,
        playback_type=one.playback,
        quality=one.quality,
        codec=one.codec,
        resolution=one.resolution,
        container=one.container,
        bytes_served=one.bytes_served,
        duration_seconds=one.watched_ms // 1000,
        client_info=one.client,
        started_at=one.started_at,
        ended_at=one.ended_at,
        is_active=one.active,
        end=one.end,
    )


def _activity(one: Watched, users: dict[str, str], rules: Rules) -> WatchActivity:
    return WatchActivity(
        user_id=users.get(one.viewer_id),
        viewer_id=one.viewer_id,
        media_item_id=one.video_id,
        media_title=one.title,
        playback_type=one.playback,
        watched_at=one.started_at,
        duration_minutes=one.watched_ms // 60_000,
        completed=one.completed(rules),
    )

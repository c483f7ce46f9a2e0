"""Chores on a timer: abandoned uploads, objects of unaccepted attempts, silent workers, samples of this host, closed days.

The log decides. An event gives an upload up, and `files` deletes the sent parts if that event came before a completion. An
attempt's objects are deleted some time after the log says that it ended unaccepted, since a fenced worker may still be writing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol, TypeVar

import structlog

from events.clock import Context
from events.envelope import Envelope, Event, program
from events.errors import Stalled
from events.hosts import HostState
from events.objects import SOURCES, attempt_prefix, begun_at
from events.pulse import Pulse
from events.workers import WorkerOffline
from processors.agents.standing import is_away, words_of
from producers import days as closings
from producers import hosts, uploads
from projections import catalog, jobs, workers
from projections.catalog import Video
from projections.daily import figures as daily
from projections.jobs import Attempt, Job
from projections.streams import figures
from projections.workers import Worker

SWEPT_FOR = timedelta(days=7)
"""Age of ended attempts beyond which their prefixes are listed no more: they were swept often enough."""
log = structlog.get_logger(__name__)
S = TypeVar("S")
AWAY_IN_A_ROW = 3
"""Subjects in a row at which a service must fail to count as away; a single object may be at fault itself."""


class Store(Protocol):
    """The part of the object store that chores need."""

    async def delete_prefix(self, prefix: str) -> int: ...
    async def open_multiparts(self, prefix: str) -> list[tuple[str, str]]: ...
    async def abort_multipart(self, key: str, multipart_id: str) -> None: ...


def orphaned(attempt: Attempt, job: Job | None, before: datetime) -> str | None:
    """Return the prefix of an attempt's objects; None while they may not be deleted. Pure.

    They may be when the attempt ended before a given moment and its result was not accepted.
    """
    accepted = attempt.outcome == "completed" or (job is not None and job.status == "completed" and job.epoch == attempt.epoch)
    if accepted or attempt.outcome == "running" or attempt.ended_at is None or attempt.ended_at >= before:
        return None
    return attempt_prefix(attempt.video_id, attempt.job_id, attempt.epoch)


def put_off(chore: Callable[[Pulse], Awaitable[int]], pulse: Pulse) -> Callable[[], Awaitable[None]]:
    """Return the chore for a timer: a failure is logged, and the next turn tries again."""

    async def attempt() -> None:
        try:
            with pulse.watching():
                await chore(pulse)
        except Exception as error:  # also a bug: the feeds of the same process go on
            away = await is_away(error)
            log.warning("chore_put_off", chore=chore.__name__, error=words_of(error), exc_info=not away)

    return attempt


async def each(chore: str, subjects: Iterable[tuple[str, S]], do: Callable[[S], Awaitable[int]], pulse: Pulse) -> int:
    """Do a chore for each (name, subject), and return the sum. Log a subject at which it fails or hangs, and go on.

    Raises the error of a service that is away for AWAY_IN_A_ROW subjects: it would be for the others, too.
    """
    done = in_a_row = 0
    for name, subject in subjects:
        try:
            async with pulse.limited():
                done += await do(subject)
            in_a_row = 0
        except Exception as error:
            in_a_row = in_a_row + 1 if isinstance(error, Stalled) or await is_away(error) else 0
            if in_a_row == AWAY_IN_A_ROW:
                raise
            log.error("chore_failed", chore=chore, subject=name, error=words_of(error), exc_info=not in_a_row)
    return done


@dataclass
class Chores:
    """`upload_ttl` is the maximum time of an open upload, `orphan_ttl` the time for which objects of unaccepted attempts stay.

    `host` is the name of this machine, and `sample` returns its figures.
    """

    pool: Any
    store: Store
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
    context: Callable[[], Context]
    upload_ttl: timedelta
    orphan_ttl: timedelta
    host: str
    sample: Callable[[], HostState]

    async def sweep_uploads(self, pulse: Pulse) -> int:
        """Give up uploads begun too long ago; return their number."""
        context = self.context()
        async with self.pool.connection() as connection:
            stale = await catalog.stale_uploads(connection, context.now - self.upload_ttl)

        async def give_up(video: Video) -> int:
            await self.append([uploads.abandoned(context, video_id=video.video_id, reason="expired")])
            log.info("upload_expired", video_id=video.video_id)
            return 1

        return await each("sweep_uploads", ((video.video_id, video) for video in stale), give_up, pulse)

    async def sweep_multiparts(self, pulse: Pulse) -> int:
        """Abort multipart uploads that no open upload on the log has; return their number.

        The app may die between starting one and recording it. Their age is in their keys: not every store reports it.
        """
        before = self.context().now - self.upload_ttl
        found = [(key, id_, begun) for key, id_ in await self.store.open_multiparts(SOURCES) if (begun := begun_at(key))]

        async def abort(multipart: tuple[str, str, str]) -> int:
            key, multipart_id, video_id = multipart
            async with self.pool.connection() as connection:
                video = await catalog.by_id(connection, video_id)
            if video is not None and video.status == "uploading" and video.multipart_id == multipart_id:
                return 0  # `sweep_uploads` gives it up
            await self.store.abort_multipart(key, multipart_id)
            log.info("multipart_swept", video_id=video_id)
            return 1

        old = ((video_id, (key, id_, video_id)) for key, id_, (video_id, time) in found if time < before)
        return await each("sweep_multiparts", old, abort, pulse)

    async def sweep_attempts(self, pulse: Pulse) -> int:
        """Delete the objects of unaccepted attempts; return their number."""
        before = self.context().now - self.orphan_ttl
        async with self.pool.connection() as connection:
            ended = await jobs.unaccepted(connection, before - SWEPT_FOR, before)

        async def sweep(found: tuple[Attempt, Job | None]) -> int:
            attempt, job = found
            prefix = orphaned(attempt, job, before)
            objects = await self.store.delete_prefix(prefix) if prefix else 0
            if objects:
                log.info("attempt_swept", job_id=attempt.job_id, epoch=attempt.epoch, outcome=attempt.outcome, objects=objects)
            return objects

        return await each("sweep_attempts", ((found[0].job_id, found) for found in ended), sweep, pulse)

    async def note_silent_workers(self, pulse: Pulse) -> int:
        """Report workers silent for too long as offline; return their number."""
        context = self.context()
        async with self.pool.connection() as connection:
            silent = await workers.silent(connection, context.now - workers.OFFLINE_AFTER)

        async def note(worker: Worker) -> int:
            event = WorkerOffline(worker_id=worker.worker_id)
            id_ = context.new_id()
            await self.append(
                [Envelope(id_, context.source, worker.worker_id, context.now, event, id_, actor=program(context.source))]
            )
            return 1

        return await each("note_silent_workers", ((worker.worker_id, worker) for worker in silent), note, pulse)

    async def close_days(self, pulse: Pulse) -> int:
        """Close the local days that are over; return their number. A late event restates them; the closing stays."""
        context = self.context()
        async with self.pool.connection() as connection:
            days = await daily.due(connection, context.now)

        async def close(day: date) -> int:
            async with self.pool.connection() as connection:
                counted = await daily.count(connection, day)
            event = closings.closed(context, day.isoformat(), counted.zone, counted.stat.figures, counted.positions, "midnight")
            await self.append([event._replace(actor=program(context.source))])
            log.info("day_closed", day=day.isoformat())
            return 1

        return await each("close_days", ((day.isoformat(), day) for day in days), close, pulse)

    async def sample_host(self, pulse: Pulse) -> int:
        """Record the figures of this machine, with the active streams and transcodes while the database says; return 1."""
        context = self.context()
        streams = transcodes = None
        try:
            async with pulse.limited(), self.pool.connection() as connection:
                streams = await figures.active(connection, context.now, await figures.rules(connection))
                transcodes = await jobs.transcoding(connection)
        except Exception as error:  # a full disk stops the database, and is what the sample should show
            if not await is_away(error):
                raise
        state = await asyncio.to_thread(self.sample)
        actor = program(context.source)
        await self.append(
            [hosts.sampled(context, self.host, self.host, state, actor=actor, active_streams=streams, active_transcodes=transcodes)]
        )
        return 1

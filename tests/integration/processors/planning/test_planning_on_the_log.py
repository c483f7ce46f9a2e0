"""Planning on the real log and database: its rows are a fold, so its tables may change while videos are under way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from events.envelope import Envelope, Event
from events.jobs import JobCompleted, JobQueued, JobSubmitted
from events.kinds import AnalyseResult, JobResult, MediaResult, VerifyResult
from events.media import ObjectRef, PlanSettings
from events.topics import JOB_REQUESTS, TOPIC_OF, VIDEOS
from events.videos import VideoPlanned, VideoPublished, VideoUploaded
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.history import open_history
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.agents.app import App, Services, add_process
from processors.agents.rebuilds import Rebuilds
from processors.planning import process as planning
from processors.registry import FOLDS
from projections.folding.rebuild import flip_back, rebuild
from projections.folding.runner import ProjectionOutdated, install
from projections.history.verify import verify
from tests.support.feeding import processing
from tests.support.footage import PROBE, START
from tests.support.log import read_topic
from tests.support.waiting import eventually

POLICY = planning.Policy(PlanSettings(), "default")
PROCESS = planning.process(POLICY)


class Hand:
    """Does by hand what dispatcher and workers do with what planning asks for."""

    def __init__(self, settings: Settings, append: Any) -> None:
        self._settings = settings
        self._append = append
        self._queued: dict[str, JobSubmitted] = {}
        self.ended: set[str] = set()

    async def append(self, event: Event) -> None:
        """Put an event on the log."""
        subject = str(getattr(event, TOPIC_OF[event.TYPE].key))
        await self._append([Envelope(new_id(), "test", subject, START, event, subject)])

    async def upload(self) -> str:
        """Upload a video; return its id."""
        video = new_id()
        await self.append(VideoUploaded(video_id=video, title="t", filename="f.mp4", object_key=f"sources/{video}", size_bytes=1))
        return video

    async def jobs(self, video_id: str, count: int) -> list[JobSubmitted]:
        """Wait until so many jobs were asked for; queue them; return those that have not ended."""

        async def asked_for() -> list[JobSubmitted]:
            asked = [record.envelope.data for record in await read_topic(self._settings, JOB_REQUESTS.name)]
            jobs = {job.job_id: job for job in asked if isinstance(job, JobSubmitted) and job.video_id == video_id}
            for job in [job for id_, job in jobs.items() if id_ not in self._queued]:
                self._queued[job.job_id] = job
                known = {"job_id": job.job_id, "video_id": video_id, "pool": job.pool, "requirements": job.requirements}
                await self.append(JobQueued(spec=job.spec, priority=job.priority, **known))
            return list(jobs.values())

        jobs = await eventually(asked_for, lambda jobs: len(jobs) >= count)
        return [job for job in jobs if job.job_id not in self.ended]

    async def complete(self, job: JobSubmitted) -> None:
        """Say that a job is done."""
        self.ended.add(job.job_id)
        result: JobResult = MediaResult(renditions=(), result=ObjectRef(key=f"videos/{job.job_id}", size_bytes=1, sha256="00" * 32))
        if job.spec.kind == "analyse":
            result = AnalyseResult(probe=PROBE)
        elif job.spec.kind == "verify":
            result = VerifyResult(duration_ms=1, rungs=("360p",))
        known = {"job_id": job.job_id, "video_id": job.video_id, "pool": job.pool}
        await self.append(JobCompleted(worker_id="w", epoch=1, attempt=1, result=result, **known))

    async def facts(self, kind: type[Event]) -> Counter[str]:
        """Return how often each video has such a fact."""
        found = [record.envelope for record in await read_topic(self._settings, VIDEOS.name)]
        once = {envelope.id: envelope for envelope in found if isinstance(envelope.data, kind)}
        return Counter(envelope.subject for envelope in once.values())

    async def until(self, kind: type[Event], video_id: str) -> None:
        """Wait until a video has such a fact."""
        await eventually(lambda: self.facts(kind), lambda found: found[video_id])


@asynccontextmanager
async def planner(settings: Settings, broken: Sequence[int] = ()) -> AsyncIterator[Hand]:
    """Run planning; the appends of these numbers are on the log and raise all the same, as if the process had been killed."""
    count = 0

    def add(app: App, services: Services) -> Any:
        append = services.append

        async def appended(envelopes: Sequence[Envelope[Event]]) -> None:
            nonlocal count
            count += 1
            await append(envelopes)
            if count in broken:
                raise ConnectionError("gone after it was written")

        object.__setattr__(services, "append", appended)
        app.add_service(Rebuilds(FOLDS.values(), services.pool, lambda: open_history(settings)))
        return [add_process(app, PROCESS, services)]

    await ObjectStore(settings).ensure_bucket()
    async with processing(settings, add, open_history=lambda: open_history(settings)) as (appender, _pool, _feeds):
        yield Hand(settings, appender.append)


async def made(hand: Hand, video_id: str) -> None:
    """Do all jobs of a video, wherever it is, until it is published."""
    for count in (1, 8, 9):
        for job in await hand.jobs(video_id, count):
            await hand.complete(job)
    await hand.until(VideoPublished, video_id)


async def test_tables_change_on_a_used_log_and_videos_go_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.agents.feed.AWAY_S", 0.2)
    async with planner(settings, broken=(1, 2, 5)) as hand:
        before = await hand.upload()
        await made(hand, before)
        midway = await hand.upload()
        (analyse,) = await hand.jobs(midway, 1)
        await hand.complete(analyse)
        await hand.until(VideoPlanned, midway)
        first, *_ = await hand.jobs(midway, 8)
        await hand.complete(first)
        in_analysis = await hand.upload()
        await hand.jobs(in_analysis, 1)
        unread = await hand.upload()
        done = set(hand.ended)

    async with postgres.connected(settings) as connection:
        await connection.execute("UPDATE kinolog.projections SET digest = 'of other tables' WHERE name = 'planning'")
        await connection.execute("ALTER TABLE planning_v1.videos RENAME COLUMN state TO status")
        with pytest.raises(ProjectionOutdated):
            await install(connection, planning.PROJECTION)

    monkeypatch.setattr(POLICY, "plan", PlanSettings(format="hls_ts"))
    async with planner(settings) as hand:
        hand.ended = done
        await asyncio.gather(made(hand, midway), made(hand, in_analysis), made(hand, unread))
        videos = (before, midway, in_analysis, unread)
        assert await hand.facts(VideoPlanned) == await hand.facts(VideoPublished) == dict.fromkeys(videos, 1)
        facts = [record.envelope.data for record in await read_topic(settings, VIDEOS.name)]
        plans = {fact.video_id: fact.plan.format for fact in facts if isinstance(fact, VideoPlanned)}
        assert [plans[video] for video in videos[:3]] == ["cmaf"] * 3, "what was analysed before the change keeps its settings"
        asked = [record.envelope for record in await read_topic(settings, JOB_REQUESTS.name)]
        jobs = {envelope.id: envelope.data.job_id for envelope in asked if isinstance(envelope.data, JobSubmitted)}
        assert set(Counter(jobs.values()).values()) == {1} and len(jobs) == 4 * 9, "a job is asked for once, or by the same event"
        async with postgres.connected(settings) as connection:

            async def not_in_a_row_yet() -> list[Any]:
                return await (await connection.execute("SELECT FROM kinolog.decided")).fetchall()

            await eventually(not_in_a_row_yet, lambda decisions: not decisions)

    async with postgres.connected(settings) as connection, open_history(settings) as history:
        runner = await install(connection, planning.PROJECTION)
        assert runner.version == 2
        again = await rebuild(planning.PROJECTION, connection, history)
        assert again.equal and again.version == 3
        assert await flip_back(planning.PROJECTION, connection, history) == 2
        about = [found for found in (await verify(connection, history, FOLDS.values()))["findings"] if "planning" in found]
        assert about == []

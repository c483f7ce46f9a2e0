"""The readers on a real PostgreSQL: rows as the runner writes them, found again in every way that the apps ask for."""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from events.envelope import Event, Recorded
from events.jobs import JobCompleted, PartAccepted, PartReported, ResultReported
from events.topics import TOPIC_OF
from events.videos import VideoArchived, VideoEdited, VideoPublished, VideoUploaded
from events.workers import WorkerHeartbeat, WorkerOffline
from infra.runtime.settings import Settings
from producers import results
from producers.results import in_parts
from projections import catalog, jobs, progress, timeline, workers
from projections.catalog import slug_for
from projections.folding.runner import Batch, Slice, fold, install, touches
from projections.playback import manifests
from projections.registry import PROJECTIONS
from tests.bench.catalog import fill, library, measure
from tests.support.facts import BUSY, QUEUED, REGISTERED, claimed, held, ticked
from tests.support.feeding import write
from tests.support.folding import folded, history
from tests.support.footage import START, VIDEO_ID, chunk_result, completions, id_of, life, plan, probe, recorded
from tests.support.histories import examples

PLAN = plan(languages=("en", "de"), subtitles=("en",))


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection as the apps have it."""
    url = settings.postgres_url.get_secret_value()
    async with await AsyncConnection.connect(url, autocommit=True, options="-c timezone=UTC") as opened:
        yield opened


def uploaded(title: str, *, at_s: float, description: str = "", sha256: str | None = None) -> list[Recorded[Event]]:
    """Return the events of a published video."""
    video_id = id_of(title)
    upload = VideoUploaded(
        video_id=video_id, title=title, description=description, filename="f", object_key="k", size_bytes=1, sha256=sha256
    )
    published = VideoPublished(video_id=video_id, duration_ms=1000, rungs=("360p",))
    return [recorded(e, 0, topic="videos", at_s=at_s, name=f"{title} {e.TYPE}") for e in (upload, published)]


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
async def test_rows_come_back_as_the_fold_made_them(connection: AsyncConnection[Any], name: str) -> None:
    """Every stored example of every event, and a whole life of a video."""
    projection = PROJECTIONS[name]
    log = [*life(PLAN), *completions(PLAN)]
    for topic in projection.topics:
        for kind in topic.events:
            log += [recorded(e, 0, topic=topic.name, name=f"{kind.TYPE} {n}") for n, e in enumerate(examples(kind))]
    log = history(log)
    await write(connection, projection, log)
    runner = await install(connection, projection)
    for store in runner.stores:
        rows = folded(projection, log)[store.table.name]
        assert rows
        assert await store.fetch(connection, list(rows)) == rows


async def test_pages_are_newest_first_and_meet_without_gap_or_overlap(connection: AsyncConnection[Any]) -> None:
    log = [event for n in range(25) for event in uploaded(f"Video {n}", at_s=n // 3)]
    hidden = VideoArchived(video_id=id_of("Video 7"))
    await write(connection, catalog.PROJECTION, [*log, recorded(hidden, 0, topic="videos", name="hidden")])
    found: list[str] = []
    after = None
    while page := await catalog.page(connection, limit=10, after=after):
        found += [video.title for video in page]
        after = (page[-1].uploaded_at or START, page[-1].video_id)
    assert len(found) == len(set(found)) == 24
    assert "Video 7" not in found
    assert {title.split()[1] for title in found[:1]} == {"24"}
    ages = [int(title.split()[1]) // 3 for title in found]
    assert ages == sorted(ages, reverse=True)


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("bunny", ["Big Buck Bunny"]),
        ("BUN", ["Big Buck Bunny"]),
        ("buck bun", ["Big Buck Bunny"]),
        ("buck elephants", []),
        ("ete", ["Un Été à Paris"]),
        ("été à par", ["Un Été à Paris"]),
        ("京", ["東京"]),
        ("spider man", ["Spider-Man: 4K.mp4"]),
        ("spiderman", []),
        ("4k mp4", ["Spider-Man: 4K.mp4"]),
        ("rodents", ["Big Buck Bunny"]),
        ("' | '", []),
        ("!!", []),
        ("x:* & (y)", []),
        ("   ", ["Big Buck Bunny", "Un Été à Paris", "東京", "Spider-Man: 4K.mp4"]),
    ],
)
async def test_search_finds_words_and_beginnings(connection: AsyncConnection[Any], query: str, titles: list[str]) -> None:
    log: list[Recorded[Event]] = []
    for n, title in enumerate(("Big Buck Bunny", "Un Été à Paris", "東京", "Spider-Man: 4K.mp4")):
        log += uploaded(title, at_s=-n, description="Three rodents" if n == 0 else "")
    await write(connection, catalog.PROJECTION, log)
    assert [video.title for video in await catalog.page(connection, limit=10, query=query)] == titles
    assert [video.title for video in await catalog.listing(connection, limit=10, query=query)] == titles


async def test_a_renamed_video_is_found_by_its_new_words_under_its_old_address(connection: AsyncConnection[Any]) -> None:
    edit = VideoEdited(video_id=id_of("Old"), title="New")
    await write(connection, catalog.PROJECTION, [*uploaded("Old", at_s=0), recorded(edit, 0, topic="videos", name="edit")])
    assert await catalog.page(connection, limit=10, query="old") == []
    (found,) = await catalog.page(connection, limit=10, query="new")
    same = await catalog.by_slug(connection, slug_for("Old", id_of("Old")))
    assert same is not None and same.video_id == found.video_id
    assert await catalog.by_slug(connection, "new-00000000") is None


async def test_administrators_see_every_state_and_the_same_content(connection: AsyncConnection[Any]) -> None:
    log = [*uploaded("One", at_s=0, sha256="5a"), *uploaded("Two", at_s=1, sha256="5a"), *uploaded("Three", at_s=2)[:1]]
    log.append(recorded(VideoArchived(video_id=id_of("Two")), 0, topic="videos", name="archive"))
    await write(connection, catalog.PROJECTION, log)

    async def titles(**filters: Any) -> list[str]:
        return [video.title for video in await catalog.listing(connection, limit=10, **filters)]

    assert await titles() == ["Three", "Two", "One"]
    assert await titles(status="processing") == ["Three"]
    assert await titles(archived=True) == ["Two"]
    assert await titles(status="ready", archived=False) == ["One"]
    assert await titles(sha256="5a") == ["Two", "One"]
    assert await titles(after=(START + timedelta(seconds=2), id_of("Three"))) == ["Two", "One"]
    same = await catalog.same_content(connection, "5a")
    assert same is not None and same.title == "One"
    assert await catalog.counts(connection) == {"processing": 1, "ready": 2}


async def test_uploads_that_were_never_completed_are_stale(connection: AsyncConnection[Any]) -> None:
    (started,) = examples(next(kind for kind in TOPICS_OF_VIDEOS if kind.TYPE == "kinolog.upload.started.v1"))[:1]
    await write(connection, catalog.PROJECTION, [recorded(started, 0, topic="videos")])
    assert await catalog.stale_uploads(connection, START) == []
    assert len(await catalog.stale_uploads(connection, START + timedelta(seconds=1))) == 1


async def test_a_playlist_needs_only_its_own_renditions(connection: AsyncConnection[Any]) -> None:
    await write(connection, catalog.PROJECTION, [*life(PLAN), *completions(PLAN)])
    video = await catalog.by_id(connection, VIDEO_ID)
    assert video is not None
    everything = await catalog.media_of(connection, VIDEO_ID)
    for name in ("720p", "audio-2-96k", "subtitles-5", "nothing"):
        part = await catalog.media_of(connection, VIDEO_ID, name)
        assert {rendition.name for row in part for rendition in row.renditions} <= {name}
        assert manifests.hls_media(video, part, name) == manifests.hls_media(video, everything, name)


def in_parts_of_two(log: Sequence[Recorded[Event]]) -> list[Recorded[Event]]:
    """Return completions as they are when a record takes two segments, each after a part of an attempt that failed."""
    events: list[Event] = []
    for event in (record.envelope.data for record in log):
        assert isinstance(event, JobCompleted)
        about = {"job_id": event.job_id, "pool": event.pool, "worker_id": "w"}
        *parts, last = in_parts(ResultReported(**about, epoch=event.epoch, result=event.result))
        assert isinstance(last, ResultReported)
        for part in parts:
            assert isinstance(part, PartReported)
            accepted = PartAccepted(**about, video_id=VIDEO_ID, epoch=event.epoch, part=part.part, renditions=part.renditions)
            failed = accepted.model_copy(update={"epoch": event.epoch + 1, "renditions": ()})
            events += [failed, accepted, accepted]
        events.append(event.model_copy(update={"result": last.result}))
    return [recorded(event, offset, topic="jobs", at_s=10 + offset) for offset, event in enumerate(events)]


async def test_manifests_are_the_same_when_results_came_in_parts(
    connection: AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(connection, catalog.PROJECTION, [*life(PLAN), *completions(PLAN)])
    video = await catalog.by_id(connection, VIDEO_ID)
    assert video is not None
    names = ("720p", "audio-2-96k", "subtitles-5")

    async def rendered() -> list[str | None]:
        media = await catalog.media_of(connection, VIDEO_ID)
        texts = [manifests.hls_master(video, media), manifests.dash(video, media)]
        for name in names:
            texts.append(manifests.hls_media(video, media, name))
            texts.append(manifests.hls_media(video, await catalog.media_of(connection, VIDEO_ID, name), name))
        return texts

    whole = await rendered()
    await connection.execute("DELETE FROM catalog_v1.media")
    monkeypatch.setattr(results, "SEGMENTS_MAX", 2)
    runner = await install(connection, catalog.PROJECTION)
    log = in_parts_of_two(completions(PLAN))
    store = {store.table.name: store for store in runner.stores}
    for name in ("media", "parts"):
        await store[name].save(connection, fold(store[name].table, {}, touches(store[name].table, log)))

    assert await rendered() == whole
    assert None not in whole


async def test_an_edition_changes_with_what_its_manifests_are_made_of(connection: AsyncConnection[Any]) -> None:
    """What an edition was rendered to can be shown until there is another, in whatever order the events come."""
    events = [*life(PLAN), *completions(PLAN)]
    editions, rendered = [], []
    runner = await install(connection, catalog.PROJECTION)
    for event in history(events):
        part = Slice(event.topic, event.partition, event.offset, event.offset + 1, 1, None)
        await runner.apply(connection, Batch((part,), [event]))
        video = await catalog.by_id(connection, VIDEO_ID)
        assert video is not None
        media = await catalog.media_of(connection, VIDEO_ID)
        editions.append(await catalog.edition_of(connection, slug=video.slug))
        rendered.append((manifests.hls_master(video, media), manifests.dash(video, media)))
    assert len({text for texts in rendered for text in texts}) > 2
    for edition, texts in zip(editions, rendered, strict=True):
        assert {other for same, other in zip(editions, rendered, strict=True) if same == edition} == {texts}
    assert await catalog.edition_of(connection, slug="nothing") is None
    extras = await catalog.extras_of(connection, VIDEO_ID)
    assert video is not None and manifests.subtitles(video, extras) == manifests.subtitles(video, media) != ()


async def test_jobs_are_listed_and_counted(connection: AsyncConnection[Any]) -> None:
    done = JobCompleted(**held(1), attempt=1, result=chunk_result(plan(), 1))
    waiting = QUEUED.model_copy(update={"job_id": "waiting"})
    events = [QUEUED, claimed(1), done, waiting]
    await write(connection, jobs.PROJECTION, [recorded(e, n, topic="jobs", at_s=n) for n, e in enumerate(events)])
    assert [job.job_id for job in await jobs.listing(connection, limit=10)] == ["waiting", "j"]
    assert [job.job_id for job in await jobs.listing(connection, limit=10, status="completed", kind="encode")] == ["j"]
    assert [job.job_id for job in await jobs.listing(connection, limit=10, after=(START + timedelta(seconds=3), "waiting"))] == [
        "j"
    ]
    assert await jobs.listing(connection, limit=10, video_id="other") == []
    assert [job.job_id for job in await jobs.of_video(connection, VIDEO_ID)] == ["j", "waiting"]
    assert await jobs.counts(connection) == {"completed": 1, "queued": 1}
    (attempt,) = await jobs.attempts_at(connection, "j")
    assert attempt.outcome == "completed"


async def test_progress_workers_and_timelines_are_read(connection: AsyncConnection[Any]) -> None:
    tick = recorded(ticked(12.5), 0, topic="progress")
    heard = [recorded(e, 0, topic=TOPIC_OF[e.TYPE].name, at_s=n) for n, e in enumerate((REGISTERED, BUSY))]
    story = [*life(PLAN), *completions(PLAN)]
    await write(connection, progress.PROJECTION, [tick])
    await write(connection, workers.PROJECTION, heard)
    await write(connection, timeline.PROJECTION, story)
    (row,) = await progress.of_video(connection, VIDEO_ID)
    assert (row.percent, row.rungs[0].name) == (12.5, "720p")
    (worker,) = await workers.listing(connection)
    assert workers.presence(worker, START + timedelta(seconds=5)) == "busy"
    assert (worker.cards, worker.trials) == (REGISTERED.cards, REGISTERED.trials)
    assert await workers.silent(connection, START + timedelta(seconds=1)) == []
    assert len(await workers.silent(connection, START + timedelta(seconds=2))) == 1
    entries = await timeline.of_video(connection, VIDEO_ID)
    assert len(entries) == len(story) and entries[0].type == "kinolog.video.uploaded.v1"
    assert [entry.type for entry in await timeline.of_job(connection, id_of("extras"))] == ["kinolog.job.completed.v1"]


async def test_a_silent_worker_is_named_once(connection: AsyncConnection[Any]) -> None:
    events = [(REGISTERED, 0.0), (WorkerOffline(worker_id="w"), 100.0)]
    log = [recorded(e, n, topic="workers", at_s=at_s) for n, (e, at_s) in enumerate(events)]
    back = recorded(WorkerHeartbeat(worker_id="w", status="idle"), 0, topic="worker-heartbeats", at_s=200)
    await write(connection, workers.PROJECTION, log)
    assert await workers.silent(connection, START + timedelta(seconds=900)) == []
    runner = await install(connection, workers.PROJECTION)
    await runner.apply(connection, Batch((Slice("worker-heartbeats", 0, 0, 1, 1, None),), [back]))
    assert len(await workers.silent(connection, START + timedelta(seconds=900))) == 1


async def test_two_videos_with_one_slug_stop_nobody(connection: AsyncConnection[Any]) -> None:
    """Forty random bits may meet: the older video keeps the address, and the log goes on."""
    low = "8e55-3f2a9b6c1d04"
    ids = [f"01926f9c-5b7a-7c11-{low}", f"01926f9d-5b7a-7c11-{low}"]
    log = []
    for n, video_id in enumerate(ids):
        event = VideoUploaded(video_id=video_id, title="t", filename="f", object_key="k", size_bytes=1)
        log.append(recorded(event, n, topic="videos", at_s=n))
    await write(connection, catalog.PROJECTION, log)
    assert slug_for("t", ids[0]) == slug_for("t", ids[1])
    found = await catalog.by_slug(connection, slug_for("t", ids[1]))
    assert found is not None and found.video_id == ids[0]


async def test_readers_are_quick_among_a_few_thousand_videos(connection: AsyncConnection[Any]) -> None:
    """The bench, small: it runs, and its quickest round is far from slow even on a busy machine; `make bench` measures."""
    videos = library(2000, random.Random(1))
    assert replace(videos[0], probe=probe()) == videos[0]
    await fill(connection, videos)
    figures = await measure(connection, videos)
    quickest = {one.name: min(one.runs) / min(one.baseline) / one.goal for one in figures if one.goal}
    assert quickest
    assert {name: part for name, part in quickest.items() if part > 10} == {}


TOPICS_OF_VIDEOS = catalog.PROJECTION.topics[0].events

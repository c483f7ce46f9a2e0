"""How long the catalog's readers take among 100,000 videos; `python -m tests.bench.catalog POSTGRES_URL`."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from time import perf_counter
from typing import Any, cast
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from api.public.renderings import BYTES_MAX, Renderings
from events.envelope import Recorded
from events.videos import VideoEvent, VideoPlanned, VideoProbed, VideoPublished, VideoUploaded
from infra.runtime.memory import collect_rarely
from projections import catalog
from projections.catalog import Video, evolve_video
from projections.folding.runner import install
from projections.folding.store import TableStore, schema_of
from tests.bench.figures import Figure
from tests.bench.pace import slower
from tests.support.apps import client, make
from tests.support.folding import folded
from tests.support.footage import START, VIDEO_ID, completions, life, plan, probe, recorded, sha256

VIDEOS = 100_000
DATABASE = "kinolog_bench_catalog"
ROUNDS = 60
MANIFESTS = ("master.m3u8", "manifest.mpd", "720p.m3u8")
PAGE_GOAL = 1.5
SEARCH_GOAL = 4.0
"""At most so many times what the same page takes that is neither searched nor ordered."""
COLD_MS, KEPT_MS = 100.0, 10.0
"""Of a manifest that is rendered, and of one that is kept, at REFERENCE_PACE."""
BARE = "SELECT to_json(v)::text FROM (SELECT * FROM catalog.videos OFFSET %s LIMIT 50) v"


def library(count: int, rng: random.Random) -> list[Video]:
    """Return videos whose words are as unevenly common as those of a language; one in 50 is no longer public."""
    vocabulary = [f"{rng.choice('bcdfghklmnprstvz')}{rng.choice('aeiou')}{n:x}" for n in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    example = plan()
    template: Video | None = None
    first = VideoUploaded(
        video_id=str(UUID(int=0)), title="t", description="", filename="t.mp4", object_key="uploads/t", size_bytes=1
    )
    for offset, event in enumerate(
        (
            first,
            VideoProbed(video_id=first.video_id, probe=probe()),
            VideoPlanned(video_id=first.video_id, plan=example, job_ids=("a", "b", "c")),
            VideoPublished(video_id=first.video_id, duration_ms=24_000, rungs=("1080p", "720p", "360p")),
        )
    ):
        template = evolve_video(template, cast("Recorded[VideoEvent]", recorded(event, offset, topic="videos")))
    assert template is not None
    videos = []
    for n in range(count):
        words = rng.choices(vocabulary, weights, k=40)
        title, description = " ".join(words[:6]), " ".join(words[6:])
        video_id = str(UUID(int=rng.getrandbits(128), version=4))
        videos.append(
            replace(
                template,
                video_id=video_id,
                slug=catalog.slug_for(title, video_id),
                title=title,
                description=description,
                words=catalog._index(title, description),
                sha256=sha256(video_id),
                uploaded_at=START + timedelta(seconds=rng.randrange(10**8)),
                archived=n % 50 == 0,
                status="failed" if n % 97 == 0 else "ready",
            )
        )
    return videos


async def fill(connection: AsyncConnection[Any], videos: list[Video]) -> float:
    """Store the videos as a runner does; return seconds."""
    await install(connection, catalog.PROJECTION)
    store = TableStore(catalog.PROJECTION.tables[0], schema_of("catalog", 1))
    began = perf_counter()
    for start in range(0, len(videos), 2_000):
        await store.save(connection, {(video.video_id,): video for video in videos[start : start + 2_000]})
    took = perf_counter() - began
    await connection.execute("VACUUM ANALYZE catalog_v1.videos")
    return took


async def fill_film(connection: AsyncConnection[Any]) -> Video:
    """Store a published film of two hours: 120 chunks, 3 rungs, 2 languages; return it."""
    made = plan(seconds=7200, segments_per_chunk=10, languages=("en", "de"))
    tables = folded(catalog.PROJECTION, [*life(made), *completions(made)])
    for table in catalog.PROJECTION.tables:
        await TableStore(table, schema_of("catalog", 1)).save(connection, tables[table.name])
    film: Video = tables["videos"][(VIDEO_ID,)]
    return film


async def timed(read: Callable[[int], Awaitable[object]]) -> list[float]:
    """Return milliseconds of each round, after a few to warm up."""
    spans = []
    for n in range(ROUNDS + 10):
        began = perf_counter()
        await read(n)
        spans.append((perf_counter() - began) * 1000)
    return spans[10:]


async def measure(connection: AsyncConnection[Any], videos: list[Video]) -> list[Figure]:
    """Return one figure per reader, milliseconds in this process, SQL and parsing included; of any 50 rows, read and parsed."""

    async def bare(n: int) -> object:
        cursor = await connection.execute(BARE, [n])
        return [catalog._VIDEO.validate_json(text) for (text,) in await cursor.fetchall()]

    ordered = sorted((v for v in videos if v.status == "ready" and not v.archived), key=lambda v: (v.uploaded_at, v.video_id))
    rng = random.Random(2)
    cursors = [(v.uploaded_at, v.video_id) for v in rng.sample(ordered, ROUNDS + 10) if v.uploaded_at]
    picked = [rng.choice(videos).title.split() for _ in range(ROUNDS + 10)]
    common = videos[0].title.split()[0]
    readers: dict[str, tuple[Callable[[int], Awaitable[object]], float]] = {
        "catalog_first_page_of_50": (lambda _: catalog.page(connection, limit=50), PAGE_GOAL),
        "catalog_page_of_50": (lambda n: catalog.page(connection, limit=50, after=cursors[n]), PAGE_GOAL),
        "search_one_word": (lambda n: catalog.page(connection, limit=50, query=picked[n][0]), SEARCH_GOAL),
        "search_two_words": (lambda n: catalog.page(connection, limit=50, query=" ".join(picked[n][:2])), SEARCH_GOAL),
        "search_prefix": (lambda n: catalog.page(connection, limit=50, query=picked[n][0][:3]), SEARCH_GOAL),
        "search_letter": (lambda n: catalog.page(connection, limit=50, query=picked[n][0][:1]), SEARCH_GOAL),
        "search_commonest": (lambda _: catalog.page(connection, limit=50, query=common), SEARCH_GOAL),
        "search_nothing": (lambda n: catalog.page(connection, limit=50, query=f"xyzzy{n}"), SEARCH_GOAL),
        "by_slug": (lambda n: catalog.by_slug(connection, videos[n].slug), PAGE_GOAL),
        "same_content": (lambda n: catalog.same_content(connection, str(videos[n].sha256)), PAGE_GOAL),
        "admin_page_of_50": (lambda _: catalog.listing(connection, limit=50), SEARCH_GOAL),
        "admin_failed": (lambda _: catalog.listing(connection, limit=50, status="failed"), SEARCH_GOAL),
        "admin_archived": (lambda _: catalog.listing(connection, limit=50, archived=True), SEARCH_GOAL),
        "admin_search": (lambda n: catalog.listing(connection, limit=50, query=picked[n][0]), SEARCH_GOAL),
    }
    return [
        Figure(f"{name}, of any 50 rows", "ms", await timed(read), goal, at_least=False, baseline=await timed(bare))
        for name, (read, goal) in readers.items()
    ]


async def measure_film(url: str) -> list[Figure]:
    """Return what the public app takes for the manifests of a film of two hours: rendered for each request, of those it keeps."""
    async with AsyncConnectionPool(url, kwargs={"autocommit": True}, open=False) as pool:
        async with pool.connection() as connection:
            film = await fill_film(connection)
        app = make("public", pool=pool)
        services = app.state.services
        spans: dict[tuple[int, str], list[float]] = {}
        for bytes_max in (0, BYTES_MAX):
            app.state.services = replace(services, renderings=Renderings(bytes_max))
            async with client(app, token=None) as viewer:
                for manifest in MANIFESTS:

                    async def fetch(_: int, address: str = f"/videos/{film.slug}/{manifest}") -> object:
                        return (await viewer.get(address)).raise_for_status()

                    spans[bytes_max, manifest] = await timed(fetch)
    goals = {0: ("rendered", COLD_MS), BYTES_MAX: ("kept", KEPT_MS)}
    return [
        Figure(f"film, {name} {how}, at this pace", "ms", taken, 1, at_least=False, baseline=[goal * slower()] * len(taken))
        for (bytes_max, name), taken in spans.items()
        for how, goal in (goals[bytes_max],)
    ]


async def run(postgres_url: str, count: int = VIDEOS) -> list[Figure]:
    """Measure in a database of its own, which is dropped afterwards."""
    async with await AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {DATABASE}")
        try:
            url = make_conninfo(postgres_url, dbname=DATABASE)
            async with await AsyncConnection.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
                collect_rarely()  # as the apps do
                videos = library(count, random.Random(1))
                took = await fill(connection, videos)
                stored = Figure("catalog, rows stored", "rows/s", [count / took])
                return [stored, *await measure(connection, videos), *await measure_film(url)]
        finally:
            await admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


if __name__ == "__main__":
    for measured in asyncio.run(run(sys.argv[1])):
        print(measured.line())

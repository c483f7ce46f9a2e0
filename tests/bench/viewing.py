"""How fast streams of viewers are folded, again and live, and whether figures stay quick over many sessions."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter, process_time
from typing import Any

from psycopg import AsyncConnection, sql

from events.envelope import Envelope, Event, Recorded
from events.streams import StreamEnded, StreamServed, StreamStarted, StreamTicked
from events.topics import STREAMS, partition_for
from infra.runtime import kafka, memory, postgres
from infra.runtime.appender import appender_of
from infra.runtime.clock import new_id
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from projections.folding.runner import Batch, Slice, install
from projections.history.past import fold_to
from projections.streams import figures
from projections.streams import projection as streams
from projections.streams.rules import Rules
from tests.bench.figures import Figure
from tests.bench.pace import slower

VIEWERS = 2_000
BEATS = 40
HEARTBEATS_S = 1_700
"""Events a second of 50,000 sessions that show a sign of life every 30 s."""
LIVE_SESSIONS = 50_000
SECONDS = 3
RUNS = 3
OVERVIEW_MS = 5.0
GROWTH = (100_000, 1_000_000)
"""Past sessions between which figures must stay as quick."""
DAYS = 3 * 365
ASKED = 200


async def viewing(settings: Settings) -> Sequence[Figure]:
    """Fold the evenings of 2,000 viewers again, then a second of 50,000 live sessions; read figures over 10⁵ and 10⁶ sessions."""
    await kafka.ensure_topics(settings)
    rates = await _rebuilt(settings)
    async with postgres.connected(settings) as connection:
        live = await _live(connection)
        asked = {count: await _asked(connection, count) for count in GROWTH}
    few, many = (asked[count] for count in GROWTH)
    return [
        Figure("rebuild of sessions and days, of its process's core", "events/s", rates),
        Figure("live fold of 50,000 sessions, of one core at this pace", "cores", live, 0.5, at_least=False),
        Figure("overview of viewing over a million sessions, p50", "ms", many, OVERVIEW_MS * slower(), at_least=False),
        Figure("the same, of that over a hundred thousand", "ms", many, 1.2, at_least=False, baseline=few),
    ]


def _evening(viewer: str, start: datetime) -> Iterator[tuple[datetime, Any]]:
    """Yield the events of a viewer: twenty minutes of a film."""
    known = {"viewer_id": viewer, "session_id": f"{viewer} {start:%d}"}
    yield start, StreamStarted(**known, video_id=f"film {hash(viewer) % 50}", media_ms=7_200_000)
    for beat in range(1, BEATS + 1):
        yield start + timedelta(seconds=30 * beat), StreamTicked(**known, position_ms=30_000 * beat)
    yield start + timedelta(seconds=30 * BEATS), StreamServed(**known, server="one", bytes_served=10**8)
    yield start + timedelta(seconds=30 * BEATS + 1), StreamEnded(**known, position_ms=30_000 * BEATS)


def _envelope(time: datetime, event: Any) -> Envelope[Event]:
    id_ = new_id()
    return Envelope(id_, "kinolog/bench", event.viewer_id, time, event, id_, actor="system:bench")


async def _rebuilt(settings: Settings) -> list[float]:
    appender = appender_of(settings, timeout_s=60, pending_max=1_000_000)
    await appender.start()
    start = datetime.now(UTC) - timedelta(days=2)
    count = 0
    for first in range(0, VIEWERS, 100):
        events = [
            _envelope(*one)
            for viewer in range(first, first + 100)
            for one in _evening(f"viewer {viewer}", start + timedelta(minutes=viewer % 60))
        ]
        await appender.append(sorted(events, key=lambda event: event.time))
        count += len(events)
    await appender.stop()
    memory.collect_rarely()
    rates = []
    partitions = [(STREAMS.name, number) for number in range(STREAMS.partitions)]
    async with open_log(settings, idle_ms=50) as source, postgres.connected(settings) as connection:
        ends = await source.ends(partitions)
        for _ in range(RUNS):
            runner = await install(connection, streams.PROJECTION)
            await connection.execute("UPDATE kinolog.positions SET position = 0, folded = 0 WHERE name = 'streams'")
            for store in runner.stores:
                await connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(store.schema, store.table.name)))
            begun = process_time()
            await fold_to(streams.PROJECTION, connection, source, ends)
            rates.append(count / (process_time() - begun))
    return rates


async def _live(connection: AsyncConnection[Any]) -> list[float]:
    """Return the share of a core that the fold of a second's heartbeats takes, PostgreSQL's work excluded, at reference pace."""
    runner = await install(connection, streams.PROJECTION)
    start = datetime.now(UTC) - timedelta(hours=1)
    offsets = {one: position for (_, one), position in (await runner.positions(connection)).items()}

    def batch(events: Sequence[tuple[datetime, Any]]) -> Batch:
        records, slices = [], []
        before = dict(offsets)
        for time, event in events:
            partition = partition_for(event.viewer_id, STREAMS.partitions)
            records.append(Recorded(STREAMS.name, partition, offsets[partition], _envelope(time, event)))
            offsets[partition] += 1
        for partition, first in before.items():
            if offsets[partition] > first:
                slices.append(Slice(STREAMS.name, partition, first, offsets[partition], offsets[partition] - first, None))
        return Batch(tuple(slices), records)

    def known(number: int) -> dict[str, str]:
        return {"viewer_id": f"live {number}", "session_id": f"live {number}"}

    for first in range(0, LIVE_SESSIONS, 5_000):
        begun = [(start, StreamStarted(**known(one), video_id=f"film {one % 500}")) for one in range(first, first + 5_000)]
        await runner.apply(connection, batch(begun))
    shares, number = [], 0
    for _ in range(RUNS):
        took = 0.0
        for second in range(SECONDS):
            time = start + timedelta(seconds=30 + second)
            beats = []
            for _ in range(HEARTBEATS_S):
                beats.append((time, StreamTicked(**known(number % LIVE_SESSIONS), position_ms=30_000)))
                number += 1
            due = batch(beats)
            begun_s = process_time()
            await runner.apply(connection, due)
            took += process_time() - begun_s
        shares.append(took / SECONDS / slower())
    return shares


async def _asked(connection: AsyncConnection[Any], sessions: int) -> list[float]:
    """Fill the tables with so many past sessions over three years; return the milliseconds of overviews, a median per run."""
    runner = await install(connection, streams.PROJECTION)
    for store in runner.stores:
        await connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(store.schema, store.table.name)))
    await connection.execute(
        "INSERT INTO streams_v1.sessions SELECT 's' || n, 'v' || n %% 5000, 'film ' || n %% 500, n %% 4, 'direct_play', at, at, 0,"
        " 60000, 60000, 7200000, null, null, null, null, null, 'playing', 1, null, 0, 0, 0, at, 'client', null, 60000, 1000, 0,"
        " '{}', '{}', '{}' FROM (SELECT n, now() - n * %(step)s::interval AS at FROM generate_series(1, %(sessions)s) n) s",
        {"sessions": sessions, "step": timedelta(days=DAYS) / sessions},
    )
    await connection.execute(
        "INSERT INTO streams_v1.days SELECT current_date - n, shard, 100, 100, 10, 100, 0, 0, 0, 6000000, 1000"
        " FROM generate_series(0, %(days)s) n, generate_series(0, 3) shard",
        {"days": DAYS},
    )
    await connection.execute("ANALYZE streams_v1.sessions, streams_v1.days")
    now = datetime.now(UTC)
    today = now.date()
    medians = []
    for _ in range(RUNS):
        times = []
        for _ in range(ASKED):
            begun = perf_counter()
            await figures.active(connection, now, Rules())
            await figures.of_days(connection, today - timedelta(days=7), today)
            times.append(1000 * (perf_counter() - begun))
        medians.append(sorted(times)[ASKED // 2])
    return medians

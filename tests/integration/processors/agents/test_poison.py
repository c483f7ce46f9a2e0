"""One input never stops the others: whatever stands on the log, every feed goes on, or says where it stands and why."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from events.codec import decode, encode
from events.envelope import Event, Recorded
from events.errors import ObjectMissing, StoreUnavailable
from events.objects import source_key
from events.pulse import Pulse
from events.topics import JOBS, PROGRESS, TOPIC_OF, VIDEOS, Topic, partition_for
from events.videos import VideoPublished
from infra.runtime import kafka, postgres
from infra.runtime.clock import system_context
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors import files
from processors.agents.app import App, Services, add_effect, add_projection
from processors.agents.feed import Feed
from processors.agents.outbox import Effect, Outbox, failing, put
from processors.planning import process as planning
from producers import catalog as cataloguing
from producers import uploads
from producers.appender import Appender
from projections import catalog
from projections.folding.fold import Projection
from projections.folding.log import decoded
from projections.folding.positions import snapshot
from projections.folding.runner import Batch, Runner, Slice, install
from projections.history.verify import every_position
from projections.history.verify import standing as still_standing
from projections.registry import PROJECTIONS
from tests.support.counting import counting, ticks
from tests.support.feeding import processing
from tests.support.folding import gather
from tests.support.strategies import EVENT_TYPES, envelopes
from tests.support.waiting import eventually

EXAMPLES = 8
"""Of each event."""
NASTY = st.text(st.characters(), max_size=40) | st.text(
    st.sampled_from("\0\ud800\udfff\x07\x1b\n'\"\\\u2028\U0001f600"), max_size=9
)
LONG = st.integers(0, 2**32).map(lambda seed: "".join(map(chr, random.Random(seed).choices(range(0x100, 0xD7FF), k=6_000))))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all texts in a JSON document."""
    if isinstance(value, str):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*path, key))


@st.composite
def records(draw: st.DrawFn, event: type[Event]) -> tuple[Topic, bytes]:
    """A record as somebody who writes to the log himself might write it: one text of an event is anything at all."""
    document = json.loads(encode(draw(envelopes(event))))
    path = draw(st.sampled_from([leaf for leaf in leaves(document) if leaf[0] in ("data", "subject", "source")]))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = draw(NASTY | LONG)
    return TOPIC_OF[event.TYPE], json.dumps(document).encode()


def examples(event: type[Event]) -> list[tuple[Topic, bytes]]:
    """Draw some."""
    found: list[tuple[Topic, bytes]] = []

    @bounds(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(records(event))
    def draw(record: tuple[Topic, bytes]) -> None:
        found.append(record)

    draw()
    return found


async def test_no_text_on_the_log_stops_a_fold(settings: Settings) -> None:
    """What cannot be read becomes a dead letter; everything else is folded and stored, however odd."""
    records = [record for event in EVENT_TYPES for record in examples(event)]
    pool = await postgres.open_pool(settings)
    complaints: list[str] = []
    async with pool.connection() as connection:
        runners = [
            await install(connection, projection) for projection in (*PROJECTIONS.values(), planning.PROJECTION, files.PROJECTION)
        ]
        for runner in runners:
            positions = await runner.positions(connection)
            for topic, value in records:
                if topic not in runner.projection.topics:
                    continue
                partition = (topic.name, partition_for("x", topic.partitions))
                readable, _dead = decoded(*partition, [(positions[partition], value)])
                try:
                    await runner.apply(connection, batch(runner.projection, partition, positions[partition], readable))
                except Exception as error:  # noqa: BLE001  (whatever it is)
                    complaints.append(f"{runner.projection.name}: {type(error).__name__}: {error} of {value[:60]!r}")
                    continue
                positions[partition] += 1
    await pool.close()
    assert not complaints, f"{len(complaints)} events stop a projection:\n" + "\n".join(complaints[:60])


def batch(projection: Projection, partition: tuple[str, int], start: int, readable: list[Recorded[Event]]) -> Batch:
    """One record as its reader offers it."""
    return Batch((Slice(*partition, start, start + 1, 1, None),), readable, gather(projection, readable))


# --- feeds ----------------------------------------------------------------------------------------------------------


async def letters(settings: Settings, topic: Topic) -> list[dict[str, Any]]:
    """Return the dead letters of a topic."""
    consumer = await kafka.open_consumer(settings, idle_ms=50)
    partition = TopicPartition(kafka.topic_name(settings, topic.dead_letters), 0)
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    found = [json.loads((await consumer.getone()).value or b"") for _ in range(end)]
    await consumer.stop()
    return found


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again at once, or nearly so."""
    monkeypatch.setattr("processors.agents.feed.RETRY_S", (0.05, 0.5))
    monkeypatch.setattr("processors.agents.feed.AWAY_S", 0.2)
    monkeypatch.setattr("processors.agents.outbox.RETRY_S", (0.05, 0.5))
    monkeypatch.setattr("processors.agents.outbox.AWAY_S", 0.2)


class Trap:
    """A fold that fails at one subject for as long as it is set."""

    def __init__(self, projection: Projection, subject: str) -> None:
        (table,) = projection.tables
        self.set = True
        self._subject = subject
        self._evolve = table.evolve
        self.projection = replace(projection, tables=(replace(table, evolve=self),))

    def __call__(self, row: Any, recorded: Recorded[Event]) -> Any:
        """Fold, or fail."""
        if self.set and recorded.envelope.subject == self._subject:
            raise ZeroDivisionError("a bug in a fold")
        return self._evolve(row, recorded)


async def folded_ids(pool: Any, name: str) -> dict[str, list[str]]:
    """Return what readers see of a counting projection."""
    async with pool.connection() as connection:
        return dict(await (await connection.execute(f"SELECT job_id, ids FROM {name}.seen")).fetchall())


@pytest.mark.usefixtures("soon")
async def test_an_event_at_which_a_fold_fails_stops_its_partition_alone_and_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ticks(400, jobs=8)
    subject = events[0].subject
    trap = Trap(counting("trapped"), subject)
    stopped = partition_for(subject, PROGRESS.partitions)
    expected: dict[str, list[str]] = {}
    for event in events:
        expected.setdefault(event.subject, []).append(event.id)
    elsewhere = {name: ids for name, ids in expected.items() if partition_for(name, PROGRESS.partitions) != stopped}
    assert elsewhere

    def add(app: App, services: Services) -> list[Feed]:
        return [add_projection(app, projection, services) for projection in (trap.projection, counting("free"))]

    async with processing(settings, add) as (appender, pool, (feed, free)):
        await appender.append(events[:200])
        await eventually(lambda: feed.fault())
        await appender.append(events[200:])

        async def others_went_on() -> bool:
            seen, all_of_it = await folded_ids(pool, "trapped"), await folded_ids(pool, "free")
            return elsewhere.items() <= seen.items() and all_of_it == expected

        await eventually(others_went_on)
        (standing,) = feed.standings()
        assert (standing.partition, standing.subject) == ((PROGRESS.name, stopped), subject)
        assert f"progress/{stopped}/{standing.offset} ({subject})" in (feed.fault() or "")
        assert "ZeroDivisionError: a bug in a fold" in (feed.fault() or "") and feed.standing_s() > 0
        assert free.fault() is None and free.standing_s() == 0
        async with pool.connection() as connection, open_log(settings, idle_ms=50) as source:
            before = await every_position(connection)
            monkeypatch.setattr("projections.history.verify.STILL_S", 0.5)
            (finding,) = await still_standing(connection, source, before, asyncio.sleep)
        assert finding.startswith(f"trapped stands still at progress/{stopped}/{standing.offset} ({subject})")
        assert subject not in await folded_ids(pool, "trapped")
        trap.set = False
        await eventually(lambda: folded_ids(pool, "trapped"), lambda found: found == expected)
        await eventually(lambda: feed.fault() is None)
    assert await letters(settings, PROGRESS) == [], "a fold is never skipped"


class Tar:
    """A fold that never comes back from one subject, for as long as it is set: an await that nobody answers."""

    def __init__(self, projection: Projection, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set = True
        self.cancelled = 0
        write = Runner.write

        async def write_or_hang(runner: Runner, connection: Any, batch: Batch) -> None:
            if self.set and runner.projection is projection and any(r.envelope.subject == subject for r in batch.records):
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled += 1
            await write(runner, connection, batch)

        monkeypatch.setattr(Runner, "write", write_or_hang)


@pytest.mark.usefixtures("soon")
async def test_a_feed_that_hangs_is_cancelled_and_its_other_partitions_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ticks(400, jobs=8)
    subject = events[0].subject
    projection, stopped = counting("hanging"), partition_for(subject, PROGRESS.partitions)
    tar = Tar(projection, subject, monkeypatch)
    expected: dict[str, list[str]] = {}
    for event in events:
        expected.setdefault(event.subject, []).append(event.id)
    elsewhere = {name: ids for name, ids in expected.items() if partition_for(name, PROGRESS.partitions) != stopped}

    def add(app: App, services: Services) -> list[Feed]:
        return [add_projection(app, projection, services)]

    async with processing(settings, add, pulse=lambda name: Pulse(name, 2.0)) as (appender, pool, (feed,)):
        await appender.append(events)
        await eventually(lambda: folded_ids(pool, "hanging"), lambda found: elsewhere.items() <= found.items())
        await eventually(lambda: feed.fault())
        (standing,) = feed.standings()
        assert (standing.partition, standing.subject) == ((PROGRESS.name, stopped), subject)
        assert "Stalled: the feed of hanging showed no sign of life for 2 s" in (feed.fault() or "") and tar.cancelled
        tar.set = False
        await eventually(lambda: folded_ids(pool, "hanging"), lambda found: found == expected)
        await eventually(lambda: feed.fault() is None)


@pytest.mark.usefixtures("soon")
async def test_a_feed_whose_reader_hangs_opens_another(settings: Settings) -> None:
    events = ticks(20)
    opened: list[LogConsumer] = []

    class Deaf(LogConsumer):
        """A consumer that never brings anything, and never closes."""

        async def read(self, *, records_max: int, wait_s: float) -> Mapping[tuple[str, int], Sequence[tuple[int, bytes]]]:
            await asyncio.Event().wait()
            return {}

    def open_source(group: str, gather_ms: int) -> LogConsumer:
        opened.append((LogConsumer if opened else Deaf)(settings, group=group, idle_ms=100, gather_ms=gather_ms))
        return opened[-1]

    def add(app: App, services: Services) -> list[Feed]:
        return [add_projection(app, counting(), replace(services, open_source=open_source))]

    async with processing(settings, add, pulse=lambda name: Pulse(name, 2.0)) as (appender, pool, _feeds):
        await appender.append(events)

        async def all_there() -> bool:
            return {id_ for ids in (await folded_ids(pool, "counting")).values() for id_ in ids} == {event.id for event in events}

        await eventually(all_there)
    assert len(opened) > 1


@asynccontextmanager
async def acting(
    settings: Settings, name: str, effect: Effect, failures_max: int = 15
) -> AsyncIterator[tuple[Appender, Any, Outbox]]:
    """Run an effect of every event of a topic; yield (appender, pool, outbox)."""
    found: list[Outbox] = []

    def add(app: App, services: Services) -> list[Feed]:
        outbox = Outbox(services.pool, {name: effect}, services.graves, services.clock, failures_max, services.pulse)
        found.append(outbox)
        app.add_service(outbox)
        return [add_effect(app, Projection(name, (PROGRESS,), (), "SELECT"), lambda recorded: True, outbox, services)]

    async with processing(settings, add) as (appender, pool, _feeds):
        yield appender, pool, found[0]


@pytest.mark.usefixtures("soon")
async def test_an_effect_that_fails_on_one_event_is_buried_and_the_others_are_done(settings: Settings) -> None:
    events = ticks(60, jobs=8)
    bad = events[8]
    done: list[str] = []
    outage = True

    async def act(recorded: Recorded[Event]) -> None:
        if outage or recorded.envelope.id == bad.id:
            raise StoreUnavailable("the store refused it")
        done.append(recorded.envelope.id)

    async def away(error: Exception) -> bool:
        return outage

    async with acting(settings, "acting", Effect(act, away), failures_max=3) as (appender, pool, outbox):
        await appender.append(events)
        await eventually(lambda: outbox.fault("acting"))
        async with pool.connection() as connection:
            assert any("the store refused it" in sentence for sentence in await failing(connection)), "verify knows it, too"
            positions = await snapshot(connection, "acting")
            assert sum(positions.next.values()) >= len(events), "the feed went on"
        assert await letters(settings, PROGRESS) == [], "while the store is away nothing is given up"
        outage = False
        await eventually(lambda: {event.id for event in events} - set(done) == {bad.id})
        await eventually(lambda: outbox.fault("acting") is None)

        async def empty() -> bool:
            async with pool.connection() as connection:
                left = await (await connection.execute("SELECT count(*) FROM kinolog.outbox")).fetchone()
            return bool(left == (0,))

        await eventually(empty)
    assert len(done) == len(set(done)), "none was done twice"
    for subject in {event.subject for event in events}:
        mine = [event.id for event in events if event.subject == subject and event.id != bad.id]
        assert [id_ for id_ in done if id_ in mine] == mine, "those of a subject come in order"
    (letter,) = await letters(settings, PROGRESS)
    feed = (letter["topic"], letter["partition"], letter["reader"])
    assert feed == (PROGRESS.name, partition_for(bad.subject, PROGRESS.partitions), "acting")
    assert "acting failed 3 times: StoreUnavailable: the store refused it" in letter["reason"]
    assert decode(base64.b64decode(letter["value"])).id == bad.id


@pytest.mark.usefixtures("soon")
async def test_what_an_effect_could_not_do_is_done_when_it_is_offered_again(settings: Settings) -> None:
    (event,) = ticks(1)
    done: list[str] = []
    broken = True

    async def act(recorded: Recorded[Event]) -> None:
        if broken:
            raise ValueError("a bug")
        done.append(recorded.envelope.id)

    async with acting(settings, "acting", Effect(act), failures_max=1) as (appender, pool, outbox):
        ((topic, partition, offset),) = await appender.append([event])
        await eventually(lambda: letters(settings, PROGRESS))
        broken = False
        for _ in range(2):
            async with pool.connection() as connection:
                await put(connection, "acting", [Recorded(topic, partition, offset, event)], again=True)
            outbox.wake()
            expected = len(done) + 1
            await eventually(lambda: len(done) == expected)  # noqa: B023
        await eventually(lambda: outbox.fault("acting") is None)


@pytest.mark.usefixtures("soon")
async def test_a_whole_topic_is_never_buried(settings: Settings) -> None:
    """As after a deployment of code that is older than the events."""
    good = ticks(5, jobs=1)

    def add(app: App, services: Services) -> list[Feed]:
        return [add_projection(app, counting(), services)]

    async with processing(settings, add, dead_letters_max=10) as (appender, pool, (feed,)):
        producer = await kafka.open_producer(settings)
        name, number = kafka.topic_name(settings, PROGRESS), partition_for(good[0].subject, PROGRESS.partitions)
        for n in range(10):
            await producer.send_and_wait(name, b"{not an event %d" % n, partition=number)
        await appender.append(good)
        await eventually(lambda: folded_ids(pool, "counting"))
        for n in range(40):
            await producer.send(name, b"{newer than this code %d" % n, partition=number)
        await producer.flush()
        await eventually(lambda: feed.fault())
        assert "records cannot be used" in (feed.fault() or "") and "KINOLOG_DEAD_LETTERS_MAX" in (feed.fault() or "")
        await producer.stop()
    assert len(await letters(settings, PROGRESS)) == 10


@pytest.mark.usefixtures("soon")
async def test_a_topic_is_not_buried_piece_by_piece_by_processes_that_start_again(settings: Settings) -> None:
    """What was buried before counts, and is not buried twice though nothing was committed."""
    good = ticks(5, jobs=1)
    name, number = kafka.topic_name(settings, PROGRESS), partition_for(good[0].subject, PROGRESS.partitions)

    def add(app: App, services: Services) -> list[Feed]:
        return [add_projection(app, counting(), services)]

    for begun in range(3):
        async with processing(settings, add, dead_letters_max=10) as (appender, pool, (feed,)):
            producer = await kafka.open_producer(settings)
            for n in range(8):
                await producer.send_and_wait(name, b"{newer than this code %d" % n, partition=number)
            await producer.stop()
            if begun == 0:
                await appender.append(good)
                await eventually(lambda: folded_ids(pool, "counting"))
            else:
                await eventually(lambda: feed.fault())
                assert "records cannot be used" in (feed.fault() or "")
    assert len(await letters(settings, PROGRESS)) <= 10


async def test_files_wait_for_positions_and_never_for_rows(settings: Settings) -> None:
    """What the catalog has not read yet is waited for; what it has read and knows nothing of will not come."""
    store = ObjectStore(settings)
    await store.ensure_bucket()
    context, video = system_context("test"), system_context("test").new_id()
    begun = uploads.started(context, video_id=video, filename="a.mp4", size_bytes=1, multipart_id=None, part_bytes=None)
    given_up = uploads.abandoned(context, video_id=video, reason="expired")
    published = begun._replace(id=context.new_id(), data=VideoPublished(video_id=video, duration_ms=1, rungs=("720p",)))
    await store.put_bytes(source_key(video), b"x", "video/mp4")
    partition = (VIDEOS.name, partition_for(video, VIDEOS.partitions))
    records = [Recorded(*partition, offset, envelope) for offset, envelope in enumerate((begun, given_up, published))]
    pool = await postgres.open_pool(settings)
    async with pool.connection() as connection:
        folding, planned = [await install(connection, one) for one in (catalog.PROJECTION, planning.PROJECTION)]
        act = files.act_with(pool, store)
        for recorded in records[1:]:
            with pytest.raises(files.CatalogBehind):
                await act(recorded)
        assert await store.stat(source_key(video))

        await folding.apply(connection, Batch((Slice(*partition, 0, 3, 3, None),), records))
        await act(records[1])
        with pytest.raises(ObjectMissing):
            await store.stat(source_key(video))
        await act(records[2])

        jobs = (JOBS.name, 0)
        await planned.apply(connection, Batch((Slice(*jobs, 0, 1, 1, None),), ()))
        with pytest.raises(files.CatalogBehind):
            await act(records[2])  # planning has read a completion that the catalog has not
        await folding.apply(connection, Batch((Slice(*jobs, 0, 1, 1, None),), ()))
        await act(records[2])
    await pool.close()


async def test_an_end_without_a_start_does_not_stop_the_deletion_of_what_is_purged(settings: Settings) -> None:
    """What a form with NUL in its file name left on logs that are there already."""
    store = ObjectStore(settings)
    await store.ensure_bucket()
    context = system_context("test")
    unknown, video = context.new_id(), context.new_id()
    segment = f"videos/{video}/job/1/720p/0.m4s"
    await store.put_bytes(segment, b"x", "video/mp4")
    await store.put_bytes(source_key(video), b"x", "video/mp4")
    begun = uploads.started(context, video_id=video, filename="a.mp4", size_bytes=1, multipart_id=None, part_bytes=None)

    def add(app: App, services: Services) -> list[Feed]:
        effect = Effect(files.act_with(services.pool, store), files.away_with(store))
        outbox = Outbox(services.pool, {"files": effect}, services.graves, services.clock, 15)
        app.add_service(outbox)
        acting = add_effect(app, files.PROJECTION, files.wants, outbox, services)
        return [add_projection(app, catalog.PROJECTION, services), acting]

    async with processing(settings, add) as (appender, _pool, (_, feed)):
        dangling = uploads.abandoned(context, video_id=unknown, reason="cancelled")
        await appender.append([dangling, begun])
        await appender.append([cataloguing.purged(context, video), uploads.abandoned(context, video_id=video, reason="expired")])
        await eventually(lambda: store.under(f"videos/{video}/"), lambda left: not left)
        assert feed.fault() is None
    with pytest.raises(ObjectMissing):
        await store.stat(source_key(video))

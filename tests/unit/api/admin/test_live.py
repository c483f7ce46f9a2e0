"""Live status: every message once, in order, whatever happens in between; one reader of the log for all who listen."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.admin.live import hub as hub_module
from api.admin.live.hub import Hub, Initial
from api.admin.live.messages import of_progress, of_workers
from api.admin.live.routes import _vector
from api.limits import TimeLimited
from events.envelope import Envelope, Event, Recorded
from events.errors import InvalidRequest
from events.pulse import Pulse
from events.topics import TOPIC_OF, Partition
from events.workers import WorkerHeartbeat
from infra.reference.schemas import all_events
from infra.runtime.clock import SystemClock
from projections.folding.positions import Positions
from tests.support.apps import client, make
from tests.support.footage import START, id_of
from tests.support.histories import examples
from tests.support.live import Heard, parse, percents, running, tick
from tests.support.memory_log import MemoryLog
from tests.support.waiting import eventually


async def nothing() -> tuple[dict[Partition, int], dict[str, object]]:
    """Be a state before everything."""
    return {}, {"videos": []}


async def hear(
    hub: Hub, count: int, *, last: str | None = None, wanted: Collection[str] | None = None, initial: Initial = nothing
) -> list[Heard]:
    """Listen until `count` messages about jobs came, or the stream ended."""
    heard: list[Heard] = []
    async with aclosing(hub.listen(hub.progress, initial, last=_vector(hub.progress, last), wanted=wanted)) as stream:  # type: ignore[type-var]
        async with asyncio.timeout(60):
            while len(percents(heard)) < count and (chunk := await anext(stream, None)) is not None:
                heard += parse(chunk)
    return heard


async def test_a_stream_begins_with_the_state_and_goes_on_from_its_position() -> None:
    log = MemoryLog()
    await log.append(tick(1), tick(2), tick(3))
    (partition,) = log.records

    async def initial() -> tuple[dict[Partition, int], dict[str, object]]:
        return {partition: 2}, {"videos": [{"progress_percent": 2}]}

    async with running(log) as hub:
        heard = await hear(hub, 1, initial=initial)

    assert [one.event for one in heard] == ["initial", "progress"]
    assert heard[0].data["videos"] == [{"progress_percent": 2}] and heard[0].id is not None
    assert f"progress:{'' if partition[1] == 0 else '0=0,'}" in heard[0].id and f"{partition[1]}=2" in heard[0].id
    assert percents(heard) == [3.0]
    assert heard[1].data["job_id"] == id_of("job") and heard[1].data["status"] == "processing"


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(1, 12),
    st.booleans(),
)
async def test_whoever_comes_back_misses_nothing_and_hears_nothing_twice(
    jobs: list[int], cuts: list[int], kept_max: int, picky: bool
) -> None:
    """Any number of disconnections, with rings so small that most of it must be read from the log again."""
    log, events = MemoryLog(), [tick(n, f"job {job}", f"video {job % 2}") for n, job in enumerate(jobs)]
    wanted = {id_of("video 1")} if picky else None
    heard: list[Heard] = []
    last = None
    async with running(log, kept_max=kept_max) as hub:
        edges = sorted({min(cut, len(events)) for cut in cuts} | {len(events)})
        for start, stop in zip([0, *edges], edges, strict=False):
            await log.append(*events[start:stop])
            there = sum(wanted is None or event.data.video_id in wanted for event in events[:stop])  # type: ignore[attr-defined]
            while (missing := there - len(percents(heard))) > 0:
                heard += await hear(hub, (missing + 1) // 2, last=last, wanted=wanted)
                last = [one.id for one in heard if one.id is not None][-1]

    for job in set(jobs):
        notice = [one.data["progress_percent"] for one in heard if one.data.get("job_id") == id_of(f"job {job}")]
        expected = [n for n, of in enumerate(jobs) if of == job and (not picky or of % 2 == 1)]
        assert notice == expected


@pytest.mark.parametrize("kept_max", [1, 1000])
async def test_what_came_together_is_sent_by_time(kept_max: int) -> None:
    """From the ring and from the log: the partitions of a batch come one after another, and a video's events are in several."""
    log = MemoryLog()
    late = [tick(number, "late")._replace(time=START + timedelta(seconds=number)) for number in (2, 4)]
    early = [tick(number, "early")._replace(time=START + timedelta(seconds=number)) for number in (1, 3)]
    await log.append(*late, *early)
    assert len(log.records) == 2, "two partitions"

    async with running(log, kept_max=kept_max) as hub:
        heard = await hear(hub, 4)

    assert percents(heard) == [1, 2, 3, 4]


async def test_who_is_too_slow_is_dropped_and_gets_the_rest_by_coming_back() -> None:
    log = MemoryLog()
    async with running(log, kept_max=4) as hub:
        stream = hub.listen(hub.progress, nothing)
        heard = parse(await anext(stream))
        await log.append(tick(1))
        heard += parse(await anext(stream))
        await log.append(*(tick(n) for n in range(2, 12)))
        while hub.progress.end < 11:
            await hub.progress.news(1)
        (dropped,) = parse(await anext(stream))
        assert dropped.event == "dropped" and "too slow: 6 messages" in dropped.data["reason"] and dropped.id is None
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        again = await hear(hub, 10, last=heard[-1].id)

    assert percents(heard) + percents(again) == [float(n) for n in range(1, 12)]
    assert again[0].event == "progress", "who goes on gets no state"


async def test_a_thousand_listeners_share_one_reader() -> None:
    log = MemoryLog()
    async with running(log) as hub:
        listeners = [asyncio.create_task(hear(hub, 3)) for _ in range(1000)]
        await eventually(lambda: hub.listeners == 1000)
        await log.append(tick(1), tick(2), tick(3))
        heard = await asyncio.gather(*listeners)

        assert Counter(tuple(percents(one)) for one in heard) == {(1.0, 2.0, 3.0): 1000}
        assert (log.opened, hub.listeners) == (1, 0)


async def test_who_is_far_behind_or_before_the_log_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    await log.append(*(tick(n) for n in range(20)))
    (partition,) = log.records
    monkeypatch.setattr(hub_module, "REPLAYED_MAX", 10)

    async def now() -> tuple[dict[Partition, int], dict[str, object]]:
        return {partition: 20}, {}

    async with running(log) as hub:
        ids = [hub.progress.id_of(hub.progress.vector_of({partition: position})) for position in (5, 15)]
        log.forget(partition, 18)
        for last in ids:
            await log.append(tick(99))
            assert [one.event for one in await hear(hub, 1, last=last, initial=now)][:2] == ["initial", "progress"]


async def test_silence_is_broken_by_heartbeats_that_keep_the_place_also_while_others_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "HEARTBEAT_S", 0.05)
    log = MemoryLog()

    async def talk() -> None:
        for number in count():
            await log.append(tick(number))
            await asyncio.sleep(0)

    async with running(log) as hub:
        async with aclosing(hub.listen(hub.progress, nothing, wanted={id_of("another video")})) as stream:  # type: ignore[type-var]
            assert parse(await anext(stream))[0].event == "initial"
            talking = asyncio.create_task(talk())
            await eventually(lambda: any(hub.progress.reached))  # a heartbeat may be due before anything was read
            (beat,) = parse(await anext(stream))
            talking.cancel()
        assert beat.event == "heartbeat" and beat.id is not None
        assert Positions.parse(beat.id).next[next(iter(log.records))] > 0


async def test_streams_end_when_the_app_is_stopped() -> None:
    async with running(MemoryLog()) as hub:
        stream = hub.listen(hub.progress, nothing)
        await anext(stream)
        waiting = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0)
        hub.stop()
        assert await waiting is None


@pytest.mark.parametrize("last", ["yesterday", "jobs:0=1", "workers:0=1;worker-heartbeats:0=1"])
async def test_an_id_of_something_else_is_refused(last: str) -> None:
    async with running(MemoryLog()) as hub:
        with pytest.raises(InvalidRequest, match="Last-Event-ID"):
            _vector(hub.progress, last)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/events/progress?video_ids=", 422),
        ("/api/events/progress?video_ids=" + ",".join(map(str, range(101))), 422),
        ("/api/events/workers?as_of=2026-03-01T12:00:00Z", 422),
        ("/api/events/workers", 503),
    ],
)
async def test_what_cannot_be_followed_is_said(path: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows the log here: what may be followed is waited for until the limit."""
    monkeypatch.setattr("api.app.TimeLimited", partial(TimeLimited, answer_s=0.1))
    async with client(make("admin")) as admin:
        answer = await admin.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("kind", all_events())
def test_messages_have_the_known_shape_whatever_happens(kind: type[Event]) -> None:
    topic = TOPIC_OF[kind.TYPE].name
    for event in examples(kind):
        recorded: Recorded[Any] = Recorded(topic, 0, 0, Envelope(id_of("e"), "test", "s", START, event, id_of("c")))
        if topic in ("videos", "jobs", "progress") and (notice := of_progress(recorded)):
            assert list(notice.data) == [
                *("type", "video_id", "job_id", "current_step", "progress_percent"),
                *("qualities", "status", "last_error", "timestamp"),
            ]
            assert notice.event == notice.data["type"] and notice.event in ("progress", "job_completed", "job_failed")
        if topic in ("workers", "worker-heartbeats") and (worker := of_workers(recorded)):
            assert worker.event == "worker_status" and worker.data["worker_id"] == worker.about


def test_a_busy_worker_says_at_what() -> None:
    event = WorkerHeartbeat(worker_id="w", status="busy", job_ids=("j",))
    notice = of_workers(Recorded("worker-heartbeats", 0, 0, Envelope(id_of("e"), "test", "w", START, event, id_of("c"))))
    assert notice is not None and (notice.data["status"], notice.data["job_ids"]) == ("busy", ["j"])


async def test_a_reader_that_hangs_is_replaced_by_another() -> None:
    log = MemoryLog()

    async def deaf(*, records_max: int, wait_s: float) -> dict[Partition, list[tuple[int, bytes]]]:
        await asyncio.Event().wait()
        return {}

    @asynccontextmanager
    async def open_source() -> AsyncIterator[Any]:
        async with log.open() as reader:
            if log.opened == 1:
                reader.read = deaf  # type: ignore[method-assign]
            yield reader

    hub = Hub(open_source, SystemClock(), pulse=Pulse("live status", 0.5))
    following = asyncio.create_task(hub.run())
    listening = asyncio.create_task(hear(hub, 1))
    await eventually(lambda: log.opened == 2)
    await log.append(tick(1))
    assert percents(await listening) == [1.0]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

"""The dispatcher alone, on the real broker: one owner decides, whatever is killed, doubled or broken."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from events.codec import encode
from events.envelope import Envelope, Event, Recorded
from events.jobs import ClaimRequested, JobClaimed, JobFact, JobQueued, JobRequest, JobSubmitted, RequestRefused
from events.kinds import AnalyseSpec, Capabilities, Requirements, Source
from events.topics import JOB_REQUESTS, JOBS, partition_for
from infra.local import supervision
from infra.policy import policy_of
from infra.runtime import kafka
from infra.runtime.clock import SystemClock, new_id
from infra.runtime.log_consumer import open_log
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.agents.dead_letters import Limit, recall_with
from processors.dispatch import owner as dispatcher_module
from processors.dispatch.decide import decide
from processors.dispatch.owner import Clients, Dispatcher
from processors.dispatch.snapshots import Mark, dump, take
from processors.dispatch.state import Decided, State, evolve
from producers.appender import EVENT_BYTES_MAX, Appender
from projections.history.audit import JobAudit
from tests.support.log import appending, read_topic
from tests.support.platform import Platform
from tests.support.pools import Pool, contents
from tests.support.waiting import eventually

POOL = "default"
NUMBER = partition_for(POOL, JOBS.partitions)
SPEC = AnalyseSpec(source=Source(object_key="sources/x", size_bytes=1))
ANY = Capabilities(kinds=("analyse",))


def submitted() -> Envelope[Event]:
    id_ = new_id()
    event = JobSubmitted(job_id=id_, video_id=id_, pool=POOL, spec=SPEC, requirements=Requirements(kind="analyse"))
    return Envelope(id_, "test", POOL, SystemClock().now(), event, id_)


def claim_of(worker_id: str) -> Envelope[Event]:
    id_, now = new_id(), SystemClock().now()
    event = ClaimRequested(worker_id=worker_id, pool=POOL, capabilities=ANY, deadline=now + timedelta(minutes=10))
    return Envelope(id_, "test", POOL, now, event, id_)


def dispatcher_of(settings: Settings, appender: Appender, *, group: str = "", member: str | None = None, **more: Any) -> Dispatcher:
    """A dispatcher in this process; one with a `group` of its own believes that every partition is its own."""
    clients = Clients(
        consumer=lambda name: kafka.open_consumer(
            settings, group=name and name + group, group_instance_id=name and member, idle_ms=100 if name else 20
        ),
        producer=lambda transactional_id: kafka.open_producer(settings, transactional_id=transactional_id),
        append=appender.append,
        new_id=new_id,
        recall=recall_with(lambda: open_log(settings, idle_ms=50)),
        store=ObjectStore(settings),
        topic_prefix=settings.topic_prefix,
    )
    return Dispatcher(clients, SystemClock(), policy_of(settings), (POOL,), **more)


async def owning(dispatcher: Dispatcher) -> None:
    await eventually(lambda: dispatcher.ready)


async def facts_of(settings: Settings, kind: type[Event]) -> list[Event]:
    return [fact.envelope.data for fact in await read_topic(settings, "jobs") if isinstance(fact.envelope.data, kind)]


async def counted(settings: Settings, kind: type[Event], number: int) -> None:
    """Wait until so many facts of a kind are on the log."""
    await eventually(lambda: facts_of(settings, kind), lambda facts: len(facts) >= number)


async def assert_sound(settings: Settings) -> None:
    """Every rule of the audit holds, and no job was queued twice."""
    audit = JobAudit()
    for fact in await read_topic(settings, "jobs"):
        audit.see(cast("Recorded[JobFact]", fact))
    assert audit.complaints == []
    queued = Counter(fact.job_id for fact in await facts_of(settings, JobQueued) if isinstance(fact, JobQueued))
    assert set(queued.values()) <= {1}


async def folded(settings: Settings) -> State:
    """The state that all facts of the log give."""
    state = State(policy=policy_of(settings))
    for fact in await read_topic(settings, "jobs"):
        if fact.partition == NUMBER:
            evolve(state, cast("Envelope[Decided]", fact.envelope))
    return state


async def test_a_second_dispatcher_fences_the_first(settings: Settings) -> None:
    """Both believe that they own the partition, as after a pause: only the fence distinguishes them."""
    async with appending(settings) as appender:
        first, second = dispatcher_of(settings, appender), dispatcher_of(settings, appender, group=".other")
        await first.start()
        await owning(first)
        await appender.append([submitted()])
        await counted(settings, JobQueued, 1)
        await second.start()
        await owning(second)
        await appender.append([submitted() for _ in range(5)])
        await counted(settings, JobQueued, 6)
        await eventually(lambda: first.crashed)
        await appender.append([submitted()])
        await counted(settings, JobQueued, 7)
        assert not second.crashed
        await assert_sound(settings)
        await asyncio.gather(first.stop(), second.stop())


async def test_one_that_is_stopped_in_the_middle_of_a_transaction_ends(
    settings: Settings, local_engine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes back what it began, as soon as the broker, which hangs from the transaction's beginning on, answers again."""
    (broker,) = [row["pid"] for row in supervision.status(local_engine) if row["name"] == "kafka"]
    begin_transaction: Callable[[AIOKafkaProducer], Awaitable[None]] = AIOKafkaProducer.begin_transaction
    begun = asyncio.Event()

    async def begin_and_hang(producer: AIOKafkaProducer) -> None:
        await begin_transaction(producer)
        os.kill(broker, signal.SIGSTOP)
        begun.set()

    async with appending(settings) as appender:
        dispatcher = dispatcher_of(settings, appender)
        await dispatcher.start()
        await owning(dispatcher)
        monkeypatch.setattr(AIOKafkaProducer, "begin_transaction", begin_and_hang)
        try:
            await appender.append([submitted()])
            await begun.wait()
            stopping = asyncio.create_task(dispatcher.stop())
            await asyncio.wait({stopping}, timeout=1)
        finally:
            os.kill(broker, signal.SIGCONT)
        ended, _ = await asyncio.wait({stopping}, timeout=60)
        assert ended


async def test_what_cannot_be_read_is_a_dead_letter_and_stops_nothing(settings: Settings) -> None:
    async with appending(settings) as appender:
        producer = await kafka.open_producer(settings)
        for value in (b"not json", b"{}", encode(submitted()).replace(b'"pool"', b'"loop"')):
            await producer.send_and_wait(settings.topic_prefix + JOB_REQUESTS.name, value, partition=NUMBER)
        await producer.stop()
        await appender.append([submitted()])
        dispatcher = dispatcher_of(settings, appender)
        await dispatcher.start()
        await counted(settings, JobQueued, 1)
        await dispatcher.stop()
        consumer = await kafka.open_consumer(settings, idle_ms=100)
        dead = TopicPartition(settings.topic_prefix + JOB_REQUESTS.dead_letters, 0)
        consumer.assign([dead])
        await consumer.seek_to_beginning(dead)
        letters: list[Any] = []
        async with asyncio.timeout(60):
            while len(letters) < 3:
                letters += (await consumer.getmany(dead, timeout_ms=500)).get(dead, [])
        await consumer.stop()
        assert [json.loads(letter.value)["offset"] for letter in letters] == [0, 1, 2]


async def test_a_dispatcher_that_can_use_hardly_anything_stands_still_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a deployment of code that is older than the requests."""
    monkeypatch.setattr(dispatcher_module, "STANDS_S", 0.2)
    limit = Limit(2, 0.0)
    async with appending(settings) as appender:
        dispatcher = dispatcher_of(settings, appender, limit=limit)
        await dispatcher.start()
        await owning(dispatcher)
        await appender.append([submitted()])
        await counted(settings, JobQueued, 1)
        producer = await kafka.open_producer(settings)
        for number in range(5):
            await producer.send(settings.topic_prefix + JOB_REQUESTS.name, b"{newer %d" % number, partition=NUMBER)
        await producer.flush()
        await producer.stop()
        await appender.append([submitted()])
        await eventually(lambda: dispatcher.fault or "", lambda fault: "KINOLOG_DEAD_LETTERS_MAX" in fault)
        assert await buried(settings) == 2 and len(await facts_of(settings, JobQueued)) == 1
        limit.__init__(100, 0.1)  # type: ignore[misc]
        await counted(settings, JobQueued, 2)
        await eventually(lambda: dispatcher.fault is None)
        await dispatcher.stop()
        assert await buried(settings) == 5
        await assert_sound(settings)


async def test_a_dispatcher_that_starts_again_knows_what_it_has_buried(settings: Settings) -> None:
    async with appending(settings) as appender:
        for begun in range(2):
            dispatcher = dispatcher_of(settings, appender, limit=Limit(3, 0.0))
            await dispatcher.start()
            await owning(dispatcher)
            producer = await kafka.open_producer(settings)
            for number in range(3):
                await producer.send_and_wait(settings.topic_prefix + JOB_REQUESTS.name, b"{newer %d" % number, partition=NUMBER)
            await producer.stop()
            if begun == 0:
                await appender.append([submitted()])
                await counted(settings, JobQueued, 1)
            else:

                async def stands() -> bool:
                    return "KINOLOG_DEAD_LETTERS_MAX" in (dispatcher.fault or "")  # noqa: B023

                await eventually(stands)
            await dispatcher.stop()
        assert await buried(settings) == 3


async def buried(settings: Settings) -> int:
    """Return how many requests were put aside."""
    consumer = await kafka.open_consumer(settings, idle_ms=100)
    dead = TopicPartition(settings.topic_prefix + JOB_REQUESTS.dead_letters, 0)
    consumer.assign([dead])
    end = (await consumer.end_offsets([dead]))[dead]
    await consumer.seek_to_beginning(dead)
    found = 0
    while await consumer.position(dead) < end:
        found += len((await consumer.getmany(dead, timeout_ms=500)).get(dead, []))
    await consumer.stop()
    return found


async def test_a_request_that_cannot_be_decided_stops_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is larger than its fact may be, one meets a bug that leaves the state half changed: the rest is decided."""
    states: list[State] = []
    large = submitted()
    spec = AnalyseSpec(source=Source(object_key="x" * (EVENT_BYTES_MAX - 1000), size_bytes=1))
    large = large._replace(data=large.data.model_copy(update={"spec": spec}))
    cursed, others = submitted(), [submitted() for _ in range(20)]

    def stumble(state: State, request: Envelope[JobRequest], now: datetime, **more: bool) -> list[Envelope[Decided]]:
        facts = decide(state, request, now, **more)
        if request.id == cursed.id:
            raise KeyError("a bug")
        return facts

    monkeypatch.setattr(dispatcher_module, "decide", stumble)
    async with appending(settings) as appender:
        dispatcher = dispatcher_of(settings, appender, owned=lambda pool, state: states.append(state))
        await dispatcher.start()
        await owning(dispatcher)
        await appender.append([*others[:10], large, cursed, *others[10:]])
        await counted(settings, JobQueued, 20)
        await counted(settings, RequestRefused, 1)
        assert {fact.job_id for fact in await facts_of(settings, JobQueued)} == {other.id for other in others}  # type: ignore[attr-defined]
        (refused,) = await facts_of(settings, RequestRefused)
        assert isinstance(refused, RequestRefused) and (refused.job_id, refused.reason) == (large.id, "too_large")
        await eventually(lambda: folded(settings), lambda state: contents(states[-1]) == contents(state))
        assert not dispatcher.crashed
        await dispatcher.stop()
        await assert_sound(settings)


async def test_a_dispatcher_killed_in_the_middle_of_a_batch_goes_on_where_it_was(settings: Settings) -> None:
    """Also from a snapshot: what it knows then is what all facts say."""
    states: list[State] = []
    async with appending(settings) as appender, AsyncExitStack() as stack:
        await ObjectStore(settings).ensure_bucket()
        before = dispatcher_of(settings, appender, snapshot_facts=100)
        await before.start()
        await owning(before)
        await appender.append([submitted() for _ in range(500)])
        await counted(settings, JobQueued, 500)
        await eventually(lambda: stored(settings))
        await before.stop()

        platform = await stack.enter_async_context(StartedByHand(settings, workers=0))
        await platform.start("dispatcher")
        await platform.ready("dispatcher")
        killed = asyncio.Event()
        asking = asyncio.create_task(asked_until(killed, appender))
        await counted(settings, JobQueued, 501)
        await platform.kill("dispatcher")
        killed.set()
        total = 500 + await asking

        name = kafka.member_name(platform.settings.dispatcher_port)
        after = dispatcher_of(settings, appender, member=name, owned=lambda pool, state: states.append(state))
        await after.start()
        await counted(settings, JobQueued, total)
        await after.stop()
        await assert_sound(settings)
        assert contents(states[-1]) == contents(await folded(settings))


async def asked_until(stop: asyncio.Event, appender: Appender) -> int:
    """Submit jobs without a pause, so that there is always a batch under way; return how many."""
    asked = 0
    while not stop.is_set():
        await appender.append([submitted() for _ in range(50)])
        asked += 50
    return asked


async def test_a_foreign_snapshot_costs_nothing_but_time(settings: Settings) -> None:
    """As after a log was lost and begun anew, while the store still has what was."""
    async with appending(settings) as appender:
        store = ObjectStore(settings)
        await store.ensure_bucket()
        await appender.append([submitted() for _ in range(20)])
        first = dispatcher_of(settings, appender)
        await first.start()
        await counted(settings, JobQueued, 20)
        await first.stop()

        key = f"snapshots/{settings.topic_prefix}kinolog.dispatcher-{NUMBER}.ndjson.zst"
        other = Pool(policy_of(settings))
        other.submit("of another log")
        await store.put_bytes(key, dump(take(other.state, Mark(3, other.facts[-1].id))), "application/zstd")
        states: list[State] = []
        second = dispatcher_of(settings, appender, owned=lambda pool, state: states.append(state))
        await second.start()
        await owning(second)
        await appender.append([submitted()])
        await counted(settings, JobQueued, 21)
        await second.stop()
        assert len(states[-1].jobs) == 21
        assert contents(states[-1]) == contents(await folded(settings))


async def stored(settings: Settings) -> bool:
    """Whether a snapshot lies in the store."""
    return bool(await ObjectStore(settings).under("snapshots/"))


class StartedByHand(Platform):
    """A platform whose processes the test starts itself."""

    async def __aenter__(self) -> "StartedByHand":
        return self


async def test_ten_thousand_queued_jobs_are_given_one_by_one(settings: Settings) -> None:
    """Each claim gets another job; tests/bench/dispatch.py measures how long that takes."""
    async with appending(settings) as appender:
        dispatcher = dispatcher_of(settings, appender)
        await dispatcher.start()
        await appender.append([submitted() for _ in range(10_000)])
        await appender.append([claim_of(f"w{n}") for n in range(200)])
        await counted(settings, JobClaimed, 200)
        await dispatcher.stop()
        claimed = [fact.job_id for fact in await facts_of(settings, JobClaimed) if isinstance(fact, JobClaimed)]
        assert len(set(claimed)) == 200
        await assert_sound(settings)

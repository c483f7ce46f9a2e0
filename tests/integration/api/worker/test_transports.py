"""Contract of a worker's transport: over the log, over the worker app, and of the stand-in that tests of the loop use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import pytest

from events.envelope import Envelope, Event
from events.errors import EventTooLarge
from events.jobs import CancelRequested, PauseRequested, ResultReported
from events.kinds import AnalyseResult, AnalyseSpec, Capabilities, JobKind, Source
from events.media import Failure, Probe
from infra.runtime import kafka
from infra.runtime.clock import new_id, system_context
from producers.appender import Appender
from tests.support.gate import ANALYSED, submitted
from tests.support.platform import Platform
from tests.support.queue import Queue
from tests.support.remote import register
from tests.support.waiting import eventually
from workers.remote.gateway import Gateway
from workers.remote.transport import HttpTransport
from workers.transport import Drained, Held, LogTransport, Transport

POOL = "default"
ANALYSES = Capabilities(kinds=("analyse",))
OTHERS = Capabilities(kinds=("extras",))
SPEC = AnalyseSpec(source=Source(object_key="sources/x", size_bytes=9))
RESULT = AnalyseResult(probe=Probe.model_validate(ANALYSED))
FAILURE = Failure(stage="analysis", category="process_failure", code="EXIT_1", message="It failed.", retryable=False)


class World(Protocol):
    """Where jobs come from, and a worker's way to them."""

    @property
    def transport(self) -> Transport: ...

    async def submit(self, kind: JobKind) -> str: ...

    async def cancel(self, job_id: str) -> None: ...

    async def drain(self) -> None: ...


class Memory(Queue):
    """The stand-in, which is both."""

    @property
    def transport(self) -> Transport:
        return self


@dataclass
class Dispatched:
    """The real dispatcher, and one of the real transports of worker `worker_id`."""

    transport: Transport
    worker_id: str
    log: Appender
    jobs: list[str] = field(default_factory=list)

    async def submit(self, kind: JobKind) -> str:
        assert kind == SPEC.kind
        self.jobs.append(await submitted(self.log, SPEC))
        return self.jobs[-1]

    async def cancel(self, job_id: str) -> None:
        await self._ask(CancelRequested(job_id=job_id, pool=POOL, reason="not needed"))

    async def drain(self) -> None:
        await self._ask(PauseRequested(pool=POOL, worker_id=self.worker_id, drain=True, reason="service"))

    async def leave(self) -> None:
        """Leave no job to the next test."""
        for job_id in self.jobs:
            await self.cancel(job_id)

    async def _ask(self, request: Event) -> None:
        context = system_context("test")
        await self.log.append([Envelope(context.new_id(), "test", POOL, context.now, request, context.new_id())])


@pytest.fixture(params=["memory", "over_log", "over_app"])
def world(request: pytest.FixtureRequest) -> World:
    """Each of them."""
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def memory() -> World:
    """The stand-in."""
    return Memory()


@pytest.fixture
async def over_log(gate: Platform, log: Appender) -> AsyncIterator[World]:
    """A worker inside the cluster."""
    worker_id = new_id()
    transport = LogTransport(
        worker_id,
        POOL,
        process_id=new_id(),
        append=log.append,
        open_consumer=lambda: kafka.open_consumer(gate.settings, idle_ms=100),
        context=lambda correlation: system_context("test", correlation),
        topic_prefix=gate.settings.topic_prefix,
    )
    await transport.start()
    dispatched = Dispatched(transport, worker_id, log)
    yield dispatched
    await transport.stop()
    await dispatched.leave()


@pytest.fixture
async def over_app(gate: Platform, log: Appender) -> AsyncIterator[World]:
    """A worker outside."""
    joined = await register(gate)
    headers = {"X-Worker-API-Key": joined["api_key"]}
    async with httpx.AsyncClient(base_url=gate.worker.base_url, headers=headers) as http:
        transport = HttpTransport(Gateway(http), pool=POOL, version="0.1.0", new_id=new_id)
        dispatched = Dispatched(transport, joined["worker_id"], log)
        yield dispatched
        await dispatched.leave()


async def claimed(world: World) -> Held:
    """Return the claim of a job that waits."""
    held = await world.transport.claim(ANALYSES, 30.0)
    assert held is not None
    return held


def ended(held: Held, failure: Failure | None = None) -> ResultReported:
    """Return the report that an attempt has ended."""
    claim = held.claim
    outcome = {"result": RESULT} if failure is None else {"failure": failure}
    return ResultReported(job_id=claim.job_id, pool=claim.pool, worker_id=claim.worker_id, epoch=claim.epoch, **outcome)


async def lost(world: World, held: Held) -> None:
    """Wait until the worker learns that a claim was ended, of which it may have to ask."""

    async def is_lost() -> bool:
        await world.transport.renew(held)
        return held.lost.done()

    await eventually(is_lost)


async def test_a_claim_gets_a_job_that_waits_and_one_that_comes(world: World) -> None:
    first = await world.submit("analyse")
    held = await claimed(world)
    waiting = asyncio.create_task(claimed(world))
    second = await world.submit("analyse")
    for one, job_id in ((held, first), (await waiting, second)):
        assert (one.claim.job_id, one.claim.epoch, one.claim.spec.kind) == (job_id, 1, "analyse")
        assert not one.lost.done()
        assert await world.transport.report(one, ended(one)) == "accepted"


async def test_without_a_job_that_the_worker_can_do_there_is_none(world: World) -> None:
    await world.submit("analyse")
    assert await world.transport.claim(OTHERS, 0.2) is None
    held = await claimed(world)
    assert await world.transport.report(held, ended(held)) == "accepted"


async def test_a_failure_is_accepted(world: World) -> None:
    await world.submit("analyse")
    held = await claimed(world)
    await world.transport.renew(held)
    assert await world.transport.report(held, ended(held, FAILURE)) == "accepted"
    world.transport.forget(held)


async def test_a_job_that_is_handed_back_is_given_again_under_a_new_epoch(world: World) -> None:
    job_id = await world.submit("analyse")
    first = await claimed(world)
    await world.transport.release(first, "the worker is being stopped")
    world.transport.forget(first)
    second = await claimed(world)
    assert (second.claim.job_id, second.claim.epoch) == (job_id, 2)
    assert await world.transport.report(second, ended(second)) == "accepted"


async def test_a_cancelled_job_is_lost_and_its_result_is_refused(world: World) -> None:
    job_id = await world.submit("analyse")
    held = await claimed(world)
    await world.cancel(job_id)
    await lost(world, held)
    assert await world.transport.report(held, ended(held)) == "refused"


async def test_a_drained_worker_is_stopped_also_while_it_waits(world: World) -> None:
    waiting = asyncio.create_task(world.transport.claim(ANALYSES, 30.0))
    await world.drain()
    with pytest.raises(Drained):
        await waiting
    with pytest.raises(Drained):
        await world.transport.claim(ANALYSES, 30.0)


async def test_a_claim_that_is_given_up_keeps_no_job(world: World) -> None:
    waiting = asyncio.create_task(world.transport.claim(ANALYSES, 30.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    job_id = await world.submit("analyse")
    held = await claimed(world)
    assert held.claim.job_id == job_id
    assert await world.transport.report(held, ended(held)) == "accepted"


async def test_a_report_that_can_never_be_written_says_so(world: World) -> None:
    await world.submit("analyse")
    held = await claimed(world)
    large = FAILURE.model_copy(update={"detail": "x" * 2_000_000})
    with pytest.raises(EventTooLarge):
        await world.transport.report(held, ended(held, large))
    assert await world.transport.report(held, ended(held, FAILURE)) == "accepted"

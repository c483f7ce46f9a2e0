"""The worker app on the real platform while services hang."""

import asyncio
import signal
import statistics
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil

from events.workers import WorkerKeyRevoked
from infra.local import supervision
from infra.runtime.settings import Settings
from producers.appender import Appender
from tests.support.gate import (
    NOBODY,
    Worker,
    given_job,
)
from tests.support.log import read_topic
from tests.support.platform import Platform
from tests.support.remote import register
from tests.support.waiting import eventually


@contextmanager
def stopped(local_engine: Settings, part: str) -> Iterator[None]:
    """Stop a part of the engine as a hanging machine does: it takes bytes, and answers nothing."""
    (row,) = [row for row in supervision.status(local_engine) if row["name"] == part]
    assert row["pid"] is not None, row
    parent = psutil.Process(row["pid"])
    parent.suspend()  # from now on it starts nothing
    processes = [parent, *parent.children(recursive=True)]
    try:
        for process in processes:
            send(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            send(process, signal.SIGCONT)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process; that of a connection may have ended by itself."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


async def timed(call: Awaitable[httpx.Response]) -> tuple[int, float, str | None]:
    """Return status, seconds, and what `Retry-After` says."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer = await call
    return answer.status_code, loop.time() - begun, answer.headers.get("retry-after")


async def test_while_the_database_hangs_claims_ticks_and_results_go_on_and_the_rest_is_put_off(
    gate: Platform, local_engine: Settings, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker)
    stranger = Worker(gate, await register(gate))  # whose key was never proven
    with stopped(local_engine, "postgres"):
        put_off = asyncio.gather(
            timed(stranger.call("POST", "/heartbeat", json={})),
            timed(worker.call("POST", f"/{NOBODY}/progress", json={"epoch": 1})),
        )
        tick = {"epoch": 1, "progress_percent": 50.0}
        went_on = [await timed(worker.call("POST", f"/{job['job_id']}/progress", json=tick)) for _ in range(2)]
        second = await given_job(log, worker)
        for claimed in (job, second):
            said = {"epoch": claimed["epoch"], "retry": False}
            went_on.append(await timed(worker.call("POST", f"/{claimed['job_id']}/fail", json=said)))
        for status, seconds, retry_after in await put_off:
            assert (status, retry_after) == (503, "2") and seconds < 30
        assert {status for status, _, _ in went_on} == {200}, went_on
        # the machine may stand still for some seconds: that delays one of them, who waited for the database would delay each
        assert statistics.median(seconds for _, seconds, _ in went_on) < 2, went_on
    await eventually(lambda: stranger.call("POST", "/heartbeat", json={}), lambda answer: answer.status_code == 200)


async def test_a_revocation_bites_while_the_log_hangs_and_is_published_later(
    gate: Platform, local_engine: Settings, worker: Worker, log: Appender
) -> None:
    job = await given_job(log, worker)
    where, query = f"/upload/{job['job_id']}/segments/status", {"epoch": 1, "quality": "360p"}
    assert (await worker.call("GET", where, params=query)).status_code == 200
    with stopped(local_engine, "kafka"):
        revoking = asyncio.create_task(gate.admin.post(f"/api/worker-keys/{worker.worker_id}/revoke", json={"reason": "sold"}))
        await eventually(lambda: worker.call("GET", where, params=query), lambda answer: answer.status_code != 200)
        revoked = await revoking
        assert (revoked.status_code, len(revoked.json()["key_ids"])) == (200, 1)
    (key_id,) = revoked.json()["key_ids"]
    await eventually(lambda: revocations(gate), lambda facts: key_id in [fact.key_id for fact in facts])


async def revocations(platform: Platform) -> list[WorkerKeyRevoked]:
    """Return the revocations on the log."""
    facts = [recorded.envelope.data for recorded in await read_topic(platform.settings, "workers")]
    return [fact for fact in facts if isinstance(fact, WorkerKeyRevoked)]

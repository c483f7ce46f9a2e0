"""The loop of a worker with several slots: each claims for itself, and sources in use stay."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from events.envelope import Envelope, Event
from events.errors import EventTooLarge, InvalidEvent
from events.jobs import ResultReported
from events.kinds import Capabilities, ExtrasResult, Source
from events.media import Failure, ObjectRef, SystemContext
from events.workers import WorkerHeartbeat, WorkerRegistered
from infra.runtime.clock import SystemClock, system_context
from infra.runtime.settings import InvalidSettings, Settings
from tests.support.queue import Queue
from tests.support.waiting import eventually
from tests.support.work import DirectoryStore, local_work
from workers import loop
from workers.app import slots
from workers.attempts.work import Done, Runner, Update, Work, WorkFailed
from workers.loop import Identity, Tools, Worker
from workers.remote.gateway import NotAdmitted
from workers.sources import Sources
from workers.transcode.detect import Hardware
from workers.transport import Held, Verdict

ALL = Capabilities(kinds=("analyse", "encode", "audio"), encoders=("libx264",))
SOURCE = Source(object_key="sources/v/original", size_bytes=4)
MADE = ExtrasResult(result=ObjectRef(key="k", size_bytes=1, sha256="0" * 64))


class Bench:
    """A worker's tools, and what runs at the moment."""

    def __init__(self, directory: Path, queue: Queue) -> None:
        self.directory = directory
        self.queue = queue
        self.running: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.changed = asyncio.Event()

    def runner(self, kind: str) -> Runner:
        async def run(spec: object, work: Work) -> AsyncGenerator[Update, None]:
            self.running[kind] += 1
            self.changed.set()
            await self.go_on.wait()
            self.running[kind] -= 1
            yield Done(MADE)

        return run

    async def until(self, **running: int) -> None:
        async with asyncio.timeout(30):
            while +self.running != Counter(running):
                self.changed.clear()
                await self.changed.wait()

    @asynccontextmanager
    async def worker(self, *named: str) -> AsyncGenerator[Worker, None]:
        async def surroundings(directory: Path) -> SystemContext:
            raise AssertionError("nothing fails here")

        def work(prefix: str, directory: Path) -> Work:
            return replace(local_work(self.directory, self.directory), prefix=prefix, directory=directory)

        worker = Worker(
            Identity("w", "one", "default", "0.1.0", 2, 2**30, Hardware((), ())),
            slots(named, ALL),
            Tools(
                transport=self.queue,
                context=lambda correlation: system_context("test", correlation),
                clock=SystemClock(),
                runners={kind: self.runner(kind) for kind in ALL.kinds},
                work=work,
                observe=lambda kind, outcome, seconds: None,
                surroundings=surroundings,
            ),
            self.directory / "jobs",
            lease_s=60,
            renew_s=15,
            drain_s=20,
        )
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            self.go_on.set()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(running, 30)


async def test_each_kind_has_its_slots(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Queue(encode=3, audio=3, analyse=1))
    async with bench.worker("encode=1", "audio=2"):
        await bench.until(encode=1, audio=2)
        assert +bench.queue.waiting == Counter(encode=2, audio=1, analyse=1)
        bench.go_on.set()
        await eventually(lambda: len(bench.queue.reported) == 6)
    assert bench.queue.waiting["analyse"] == 1
    (registered,) = [event for event in bench.queue.appended if isinstance(event, WorkerRegistered)]
    assert registered.capabilities.kinds == ("encode", "audio")


async def test_light_work_does_not_wait_for_a_chunk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Queue(encode=2, audio=1))
    async with bench.worker():
        await bench.until(encode=1, audio=1)
        assert +bench.queue.waiting == Counter(encode=1)
        bench.queue.waiting.clear()
    assert [slot.kinds for slot in slots((), ALL)] == [ALL.kinds, ("analyse", "audio")]


class Narrow(Queue):
    """A log that does not take what an encode has to say: not its result and, when it is `mute`, not its failure."""

    def __init__(self, error: Exception, *, mute: bool = False, **waiting: int) -> None:
        super().__init__(**waiting)
        self.error = error
        self.mute = mute

    async def report(self, held: Held, report: ResultReported) -> Verdict | None:
        if held.claim.spec.kind == "encode" and (report.result is not None or self.mute):
            raise self.error
        return await super().report(held, report)


@pytest.mark.parametrize(
    ("error", "code"),
    [(EventTooLarge("1,000,000 bytes"), "REPORT_TOO_LARGE"), (InvalidEvent("half a character: \ud800"), "REPORT_UNWRITABLE")],
)
async def test_a_report_that_cannot_be_written_is_a_failure_and_the_other_slots_go_on(
    tmp_path: Path, error: InvalidEvent, code: str
) -> None:
    bench = Bench(tmp_path, Narrow(error, encode=2, audio=3))
    bench.go_on.set()
    async with bench.worker("encode=1", "audio=1"):
        await eventually(lambda: len(bench.queue.reported) == 5)
    failures = [report.failure for report in bench.queue.reported if report.failure is not None]
    assert [(failure.code, failure.retryable, failure.stage) for failure in failures] == [(code, False, "encoding")] * 2
    assert all(failure.message.endswith(".") and encode_json(failure) for failure in failures)
    assert [report.result for report in bench.queue.reported if report.result is not None] == [MADE] * 3


@pytest.mark.parametrize("error", [EventTooLarge("1,000,000 bytes"), RuntimeError("a bug")])
async def test_a_slot_that_cannot_say_anything_is_left_alone(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SLOT_REST_S", 0.01)
    bench = Bench(tmp_path, Narrow(error, mute=True, encode=2, audio=3))
    bench.go_on.set()
    async with bench.worker("encode=1", "audio=1"):
        await eventually(lambda: len(bench.queue.reported) == 3 and not bench.queue.waiting["encode"])
    assert [report.result for report in bench.queue.reported] == [MADE] * 3


def encode_json(failure: Failure) -> str:
    """Return the failure's JSON. Raises when it cannot be written."""
    return failure.model_dump_json()


class Closed(Queue):
    """A worker app that does not take the worker's key."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def claim(self, capabilities: Capabilities, wait_s: float) -> Held | None:
        self.asked.set()
        raise NotAdmitted("this key is revoked")


async def test_who_is_not_admitted_ends(tmp_path: Path) -> None:
    """What is wrong with a job is the slot's affair; what is wrong with the worker is not."""
    bench = Bench(tmp_path, queue := Closed())
    with pytest.raises(NotAdmitted):
        async with bench.worker("encode=1", "audio=1"):
            await queue.asked.wait()


async def test_a_drained_worker_finishes_in_all_its_slots(tmp_path: Path) -> None:
    """Each slot learns of it; that is no second wish to stop at once."""
    bench = Bench(tmp_path, Queue(encode=1))
    async with bench.worker("encode=1", "audio=2"):
        await bench.until(encode=1)
        await bench.queue.drain()
        await asyncio.sleep(0)
        bench.go_on.set()
        await eventually(lambda: bench.queue.reported)
    assert [report.result for report in bench.queue.reported] == [MADE]


def test_slots_are_a_setting() -> None:
    assert Settings.from_env({"KINOLOG_WORKER_SLOTS": "encode=2, audio=1"}).worker_slots == ("encode=2", "audio=1")
    assert [slot.kinds for slot in slots(("encode=2", "audio=1"), ALL)] == [("encode",), ("encode",), ("audio",)]
    for wrong in ("encode", "encode=0", "dance=1"):
        with pytest.raises((InvalidSettings, ValidationError)):
            Settings.from_env({"KINOLOG_WORKER_SLOTS": wrong})


async def test_a_source_stays_while_a_job_uses_it(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    wanted = [Source(object_key=f"sources/{name}/original", size_bytes=4) for name in "abc"]
    for source in wanted:
        await store.put_bytes(source.object_key, b"data", "video/mp4")
    sources = Sources(tmp_path / "sources", cast(Any, store), bytes_max=8)
    using, over = tmp_path / "using", tmp_path / "over"
    using.mkdir()
    first, _ = await sources.used_in(using).fetch(wanted[0])
    second, _ = await sources.used_in(over).fetch(wanted[1])
    third, _ = await sources.used_in(using).fetch(wanted[2])
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    with pytest.raises(WorkFailed, match="no room"):
        await sources.used_in(using).fetch(wanted[1])
    using.rmdir()
    await sources.used_in(over).fetch(wanted[1])
    assert not first.exists()


async def test_a_heartbeat_that_meets_a_bug_is_followed_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.001)
    beats: list[Event] = []

    class Stumbling(Queue):
        """Fails at the first heartbeat."""

        async def append(self, envelopes: Sequence[Envelope[Event]]) -> object:
            beats.extend(envelope.data for envelope in envelopes if isinstance(envelope.data, WorkerHeartbeat))
            if len(beats) == 1:
                raise KeyError("a bug")
            return await super().append(envelopes)

    async with Bench(tmp_path, Stumbling()).worker():
        await eventually(lambda: len(beats) >= 3)

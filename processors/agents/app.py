"""The Faust app: every projection and process is an agent over a channel of record batches.

Faust gives the agents, their restarts, the timers and the worker; positions are ours (see feed.py). The app declares no
topics and keeps no tables, so Faust's own consumer and producer are not started.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import faust
import structlog
from faust.app.base import BootStrategy
from mode import Service

from events.clock import Clock
from events.envelope import Envelope, Event, Recorded
from events.pulse import Pulse
from processors.agents.dead_letters import Graves, Limit, Recall
from processors.agents.feed import Feed, FeedMetrics, GroupSource, each
from processors.agents.outbox import Outbox, put
from processors.agents.process import Process, run_again, run_batch, settle
from processors.agents.standing import words_of
from projections.folding.code import code_of
from projections.folding.fold import Projection
from projections.folding.log import DeadLetter, Source, stretches
from projections.folding.positions import Positions, snapshot, wait_for
from projections.folding.runner import Batch, Runner, install
from projections.history.past import fold_to

GATHER_MS = 100
"""Maximum delay before an event is visible. Many folds that fetch every single event would keep the broker busy while a worker
waits for a decision. Processes see each event at once.
"""
TICK_S = 60.0
"""Rest between two ticks of a process."""
BEHIND_MAX = 10_000
"""Maximum lag in offsets of a process that may tick."""
FOLDED_S = 20.0
"""Maximum wait of a tick until the process has folded the log."""
LEFT_S = 1.0
"""Maximum wait for tasks that are left when everything has stopped."""
log = structlog.get_logger(__name__)


class _NoKafka(BootStrategy):
    """Starts agents and services without Faust's own Kafka clients."""

    enable_kafka = False


class App(faust.App):
    """A Faust app whose channels flow from the start: no rebalance of Faust's opens them."""

    BootStrategy = _NoKafka

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ours: list[Service] = []

    def add_service(self, service: Service) -> None:
        """Start a service with the app, after the agents; Faust takes instances as well as classes."""
        self._ours.append(service)
        self.service(service)  # type: ignore[arg-type]

    async def on_first_start(self) -> None:
        """Make no data directory: there are no tables."""

    async def on_started(self) -> None:
        """Open the channels, then start the feeds."""
        self.flow_control.resume()
        await super().on_started()

    async def on_stop(self) -> None:
        """Stop; close the event loop of the consumer that Faust makes at the start and that is never used."""
        await asyncio.gather(*(service.stop() for service in self._ours))  # each waits a second for its consumer
        await super().on_stop()
        self.consumer._thread.thread_loop.close()  # type: ignore[attr-defined]


class Worker(faust.Worker):
    """Runs an app, and ends with it: Faust's sleeps another two seconds before it closes the event loop."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app, loop=loop, loglevel="WARNING", redirect_stdouts=False, override_logging=False, quiet=True)
        self.spinner = None  # even a quiet one would draw on standard output, where each line is JSON

    def _gather_all(self) -> None:
        if tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=LEFT_S))

    async def _sentinel_task(self) -> None:
        """Let what was scheduled last be done."""


@dataclass(frozen=True)
class Services:
    """Services of the agents, opened by the composition root. `open_source` takes the group, and the ms to gather events."""

    pool: Any
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[object]]
    bury: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    recall: Recall
    open_source: Callable[[str, int], GroupSource]
    metrics: FeedMetrics
    clock: Clock
    topic_prefix: str = ""
    dead_letters_max: int = 100
    dead_letters_share_max: float = 0.1
    pulse: Callable[[str], Pulse] = Pulse
    open_history: Callable[[], AbstractAsyncContextManager[Source]] | None = None
    warnings: dict[str, str] = field(default_factory=dict)
    """Warnings for a person, by projection; the agents keep them up to date."""

    def graves(self, reader: str, *, in_order: bool = False) -> Graves:
        """Return the graves of a reader of the log."""
        limit = Limit(self.dead_letters_max, self.dead_letters_share_max)
        return Graves(self.bury, self.recall, reader, limit, in_order=in_order)


class Installed:
    """The runner of a projection's active version; found again after every failure, since the readers may have been flipped."""

    def __init__(self, projection: Projection, services: Services, *, folds_first: bool = False) -> None:
        """With `folds_first`, the log up to its end at start-up is folded before the first batch."""
        self._projection = projection
        self._services = services
        self._runner: Runner | None = None
        self._folds_first = folds_first
        self.found = asyncio.Event()

    async def stored(self) -> Mapping[tuple[str, int], int]:
        """Return the positions of the active version; warn when other code has folded into it."""
        async with self._services.pool.connection() as connection:
            self._runner = runner = await install(connection, self._projection)
            await runner.add_code(connection)
            if self._folds_first and self._services.open_history is not None:
                partitions = [(topic.name, number) for topic in self._projection.topics for number in range(topic.partitions)]
                async with self._services.open_history() as history:
                    await fold_to(self._projection, connection, history, await history.ends(partitions))
                self._folds_first = False
            codes = await runner.codes(connection)
            positions = await runner.positions(connection)
        self._warn(runner.version, of_other_code=bool(runner.stores) and codes != [code_of(runner.projection)])
        self.found.set()
        return positions

    def _warn(self, version: int, *, of_other_code: bool) -> None:
        name, warnings = self._projection.name, self._services.warnings
        if not of_other_code:
            warnings.pop(name, None)
        elif name not in warnings:
            warnings[name] = (
                f"v{version} was made by other code; kinolog rebuild {name} --dry-run shows what this code would change"
            )
            log.warning("made_by_other_code", projection=name, version=version)

    @property
    def runner(self) -> Runner:
        """The runner that `stored` found."""
        assert self._runner is not None, "the feed asks for stored positions before it offers a batch"
        return self._runner


def add_projection(app: App, projection: Projection, services: Services) -> Feed:
    """Fold a projection live."""
    installed = Installed(projection, services)

    async def handle(batch: Batch) -> None:
        async with services.pool.connection() as connection:
            await installed.runner.apply(connection, batch)

    return _add_agent(app, projection, installed, handle, services, gather_ms=GATHER_MS)


def add_process(app: App, process: Process, services: Services) -> Feed:
    """Run a process live. It folds the whole log before it decides: a recorded decision is not made again."""
    installed = Installed(process.projection, services, folds_first=True)

    async def handle(batch: Batch) -> None:
        async with services.pool.connection() as connection:
            await run_batch(process, installed.runner, connection, services.append, batch, services.clock.now())

    feed = _add_agent(app, process.projection, installed, handle, services)
    app.add_service(Ticking(process, installed, services))
    return feed


async def tick(process: Process, services: Services) -> bool:
    """Let time pass for a process: decide about rows without new events, at the present time.

    The process first folds the log up to its end, so that no deadline passes before an event that puts it off is known. Return
    False, and decide nothing, when that takes too long: the time of a process is that of the log that it has folded.
    """
    name, now = process.projection.name, services.clock.now()
    async with services.pool.connection() as connection:
        stored = (await snapshot(connection, name)).next
    source = services.open_source("", 0)
    try:
        starts, ends = await source.starts(stored), await source.ends(stored)
        begins = {partition: max(position, starts[partition]) for partition, position in stored.items()}
        if sum(ends[partition] - position for partition, position in begins.items()) > BEHIND_MAX:
            return False
        read = stretches(source, begins, ends, records_max=BEHIND_MAX)
        last = {partition: records[-1][0] + 1 async for partition, records in read}
    finally:
        await source.close()
    if not await wait_for(services.pool, name, Positions(last), FOLDED_S):
        return False
    async with services.pool.connection() as connection:
        await settle(process, await install(connection, process.projection), connection, services.append, now)
    return True


class Ticking(Service):
    """Lets a process decide without an event: after a start or a restatement, and as time passes."""

    def __init__(self, process: Process, installed: Installed, services: Services) -> None:
        super().__init__()
        self._process = process
        self._installed = installed
        self._services = services
        self._pulse = services.pulse(f"the ticks of {process.projection.name}")

    @Service.task
    async def _tick(self) -> None:
        await self._installed.found.wait()
        while not self.should_stop:
            try:
                async with self._pulse.limited():
                    await tick(self._process, self._services)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  (logged, and tried again)
                log.warning("tick_failed", process=self._process.projection.name, error=words_of(error))
            await self.sleep(TICK_S)


def add_effect(
    app: App, projection: Projection, wants: Callable[[Recorded[Event]], bool], outbox: Outbox, services: Services
) -> Feed:
    """Put the effects of events into the outbox, in the transaction that moves the position."""
    installed = Installed(projection, services)

    async def handle(batch: Batch) -> None:
        async with services.pool.connection() as connection, connection.transaction():
            await installed.runner.apply(connection, batch)
            await put(connection, projection.name, [recorded for recorded in batch.records if wants(recorded)])
        outbox.wake()

    return _add_agent(app, projection, installed, handle, services)


def offered_again(process: Process, services: Services) -> Callable[[Recorded[Event]], Awaitable[None]]:
    """Return a function that makes a process handle an event that it passed over."""
    installed = Installed(process.projection, services)

    async def handle(recorded: Recorded[Event]) -> None:
        await installed.stored()
        async with services.pool.connection() as connection:
            await run_again(process, installed.runner, connection, services.append, recorded, services.clock.now())

    return handle


def _add_agent(
    app: App,
    projection: Projection,
    installed: Installed,
    handle: Callable[[Batch], Awaitable[None]],
    services: Services,
    gather_ms: int = 0,
) -> Feed:
    channel: Any = app.channel(maxsize=1)
    working = services.pulse(f"the agent of {projection.name}")

    async def agent(stream: Any) -> None:
        await each(stream, handle, working)

    agent.__name__ = projection.name
    app.agent(channel, name=f"processors.{projection.name}")(agent)
    feed = Feed(
        projection,
        channel,
        open_source=lambda group: services.open_source(group, gather_ms),
        stored=installed.stored,
        graves=services.graves(projection.name, in_order=True),
        metrics=services.metrics,
        clock=services.clock,
        pulse=services.pulse(f"the feed of {projection.name}"),
        topic_prefix=services.topic_prefix,
    )
    app.add_service(feed)
    return feed


def create_app(kafka_bootstrap: str, *, topic_prefix: str = "") -> App:
    """Return an app without agents yet."""
    return App(
        f"{topic_prefix}kinolog",
        broker=f"kafka://{kafka_bootstrap}",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )

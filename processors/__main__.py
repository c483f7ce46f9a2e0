"""`python -m processors`: the Faust worker that folds every projection, plans, and archives.

`python -m processors dispatcher` assigns jobs to workers. It runs alone, so that neither folds nor files delay its answers.
"""

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer
from mode import Service

from events.envelope import Envelope, Event, Recorded
from events.jobs import JobCancelled, JobCompleted, JobFailed
from events.media import PlanSettings
from events.pulse import Pulse
from infra.local.engine.endpoints import resolve
from infra.policy import policy_of
from infra.runtime import kafka, logs, memory, metrics, postgres
from infra.runtime.appender import appender_of
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.endpoints import EndpointTable
from infra.runtime.fenced_appender import FencedAppender
from infra.runtime.folders import keep_private
from infra.runtime.log_consumer import LogConsumer, open_log
from infra.runtime.objects import ObjectStore
from infra.runtime.outside import Outside
from infra.runtime.refused_credentials import explained
from infra.runtime.sampling import Sampler
from infra.runtime.sealing import ensure_seal
from infra.runtime.settings import Settings
from infra.runtime.transcoding_settings import ladder_of
from infra.runtime.watchdog import Watchdog
from infra.settings.live import Followers, Live, live_settings
from infra.viewing import under_settings
from processors import files
from processors.agents.app import App, Services, Worker, add_effect, add_process, add_projection, create_app, offered_again
from processors.agents.dead_letters import Limit, bury_with, recall_with
from processors.agents.feed import Feed
from processors.agents.outbox import OFFERED_AGAIN, Effect, Outbox
from processors.agents.rebuilds import Rebuilds
from processors.chores import Chores, put_off
from processors.delivering import announcing
from processors.delivering.decide import Policy as DeliveryPolicy
from processors.delivering.deliverer import Clients as DeliveryClients
from processors.delivering.deliverer import Deliverer
from processors.dispatch.owner import DISPATCHER, Clients, Dispatcher
from processors.dispatch.state import State
from processors.planning import process as planning
from processors.registry import FOLDS
from projections.folding.log import Source
from projections.registry import PROJECTIONS

if TYPE_CHECKING:
    from processors.archiver import Archiver

log = structlog.get_logger(__name__)
UPLOADS_SWEPT_S = 300.0
ATTEMPTS_SWEPT_S = 3600.0
"""Maximum time between two sweeps; shorter when the swept things may stay for a shorter time."""
WORKERS_CHECKED_S = 30.0
DAYS_CLOSED_S = 60.0
NICENESS = 5
"""Folds may be some milliseconds late; a worker waits for the dispatcher's answer."""


class Metrics:
    """Reports the feeds' work to Prometheus."""

    def folded(self, name: str, events: int, seconds: float) -> None:
        """Count a batch that is durable."""
        metrics.PROJECTION_FOLDED_EVENTS.labels(name).inc(events)
        metrics.PROJECTION_BATCH_SECONDS.labels(name).observe(seconds)

    def behind(self, name: str, lag: Mapping[tuple[str, int], int]) -> None:
        """Set the lag of each partition."""
        for (topic, partition), events in lag.items():
            metrics.PROJECTION_LAG.labels(name, topic, str(partition)).set(events)

    def failed(self, name: str) -> None:
        """Count a batch that will be offered again."""
        metrics.PROJECTION_CONFLICTS.labels(name).inc()


class Server(Service):
    """Health, readiness and metrics."""

    def __init__(
        self,
        settings: Settings,
        port: int,
        missing: Callable[[], Mapping[str, str]],
        warnings: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._port = port
        self._missing = missing
        self._warnings = warnings

    async def on_start(self) -> None:
        """Listen."""
        await self.add_async_context(
            metrics.serve(
                self._port,
                self._ready,
                warned=self._warned,
                host=self._settings.bind_host,
                metrics_token=self._settings.metrics_token.get_secret_value(),
            )
        )

    async def _ready(self) -> Mapping[str, str]:
        return self._missing()

    async def _warned(self) -> Mapping[str, str]:
        return self._warnings()


def plan_settings(settings: Settings) -> PlanSettings:
    """Return the operator's settings for plans."""
    return PlanSettings(
        segment_s=settings.segment_s,
        chunk_s=settings.chunk_s,
        chunks_max=settings.chunks_max,
        length_max_s=settings.video_length_max_s,
        gap_max_s=settings.video_gap_max_s,
        tracks_max=settings.tracks_max,
        name_max=settings.track_name_max,
        format=settings.streaming_format,
        codec=settings.video_codec,
        preset=settings.encoder_preset,
        encoder=None if settings.video_hardware == "none" else f"{settings.video_codec}_{settings.video_hardware}",
        hdr=settings.hdr,
        ladder=ladder_of(settings.ladder),
    )


def observe_queue(pool: str, state: State) -> None:
    """Show waiting and running jobs of a pool, counted at each scrape and not with each decision."""

    def jobs(*statuses: str, priority: str | None = None) -> int:
        found = [job.queued for job in list(state.jobs.values()) if job.status in statuses and job.queued.pool == pool]
        return sum(priority in (None, queued.priority) for queued in found)

    def claims() -> int:
        return sum(claimed == pool for claimed, _capabilities in list(state.claim_groups.values()))

    metrics.DISPATCH_WAITING_CLAIMS.labels(pool).set_function(claims)
    metrics.DISPATCH_ACTIVE_JOBS.labels(pool).set_function(partial(jobs, "claimed"))
    for priority in ("high", "normal", "low"):
        waiting = partial(jobs, "queued", "retrying", priority=priority)
        metrics.DISPATCH_QUEUED_JOBS.labels(pool, priority).set_function(waiting)


def standing_s(name: str, feeds: Sequence[Feed], outbox: Outbox) -> float:
    """Return the seconds for which a feed of this name, or its effect, has stood still."""
    return max(outbox.standing_s(name), *(feed.standing_s() for feed in feeds if feed.name == name), 0.0)


def observe_decisions(state: State, facts: Sequence[Envelope[Event]], seconds: float) -> None:
    """Record the duration of a batch and its decisions."""
    metrics.DISPATCH_BATCH_SECONDS.observe(seconds)
    for fact in facts:
        event = fact.data
        metrics.DISPATCH_FACTS.labels(event.TYPE).inc()
        if isinstance(event, JobCompleted | JobFailed | JobCancelled):
            result = type(event).__name__.removeprefix("Job").lower()
            metrics.JOBS_ENDED.labels(state.jobs[event.job_id].queued.spec.kind, result).inc()


class Following(Service):
    """Ends the process when the settings are followed no longer; closes their reader at the end."""

    def __init__(self, task: "asyncio.Task[None]", stack: AsyncExitStack) -> None:
        super().__init__()
        self._task_followed = task
        self._stack = stack

    @Service.task
    async def _watch(self) -> None:
        await asyncio.wait({self._task_followed})
        if not self.should_stop:
            self._task_followed.result()

    async def on_shutdown(self) -> None:
        """Close."""
        await self._stack.aclose()


async def follow_settings(settings: Settings, watchdog: Watchdog) -> tuple[Followers, Following]:
    """Return the live settings, and the service that keeps them."""
    stack = AsyncExitStack()
    followers = await stack.enter_async_context(live_settings(settings, watchdog.pulse))
    return followers, Following(followers.task, stack)


def add_chores(app: App, live: Live, services: Services, store: ObjectStore, watchdog: Watchdog) -> None:
    """Schedule the chores."""
    settings = live.settings
    chores = Chores(
        services.pool,
        store,
        services.append,
        lambda: system_context("kinolog/chores"),
        timedelta(seconds=settings.upload_ttl_s),
        timedelta(seconds=settings.orphan_ttl_s),
        platform.node(),
        Sampler(settings.var_dir).sample,
    )

    def use(changed: Settings) -> None:
        chores.upload_ttl = timedelta(seconds=changed.upload_ttl_s)
        chores.orphan_ttl = timedelta(seconds=changed.orphan_ttl_s)

    live.use(use)
    for chore, every_s in (
        (chores.sweep_uploads, min(UPLOADS_SWEPT_S, settings.upload_ttl_s)),
        (chores.sweep_multiparts, min(UPLOADS_SWEPT_S, settings.upload_ttl_s)),
        (chores.sweep_attempts, min(ATTEMPTS_SWEPT_S, settings.orphan_ttl_s)),
        (chores.note_silent_workers, WORKERS_CHECKED_S),
        (chores.sample_host, settings.host_sample_s),
        (chores.close_days, DAYS_CLOSED_S),
    ):
        app.timer(every_s, name=chore.__name__)(put_off(chore, watchdog.pulse(chore.__name__)))


async def build(settings: Settings, watchdog: Watchdog) -> App:
    """Open every service and return the app with all agents."""
    await kafka.ensure_topics(settings)
    followers, following = await follow_settings(settings, watchdog)
    live = followers.live
    settings = live.settings
    pool = await postgres.open_pool(settings, size_max=12)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    clock = SystemClock()
    appender = appender_of(settings)
    await appender.start()
    bury = bury_with(
        await kafka.open_producer(settings),
        topic_prefix=settings.topic_prefix,
        observe=lambda topic, reader: metrics.DEAD_LETTERS.labels(topic, reader).inc(),
    )
    member = kafka.member_name(settings.processors_port)
    services = Services(
        pool=pool,
        append=appender.append,
        bury=bury,
        recall=recall_with(lambda: open_log(settings, idle_ms=50)),
        open_source=lambda group, gather_ms: LogConsumer(settings, group=group, member=member, gather_ms=gather_ms),
        metrics=Metrics(),
        clock=clock,
        topic_prefix=settings.topic_prefix,
        dead_letters_max=settings.dead_letters_max,
        dead_letters_share_max=settings.dead_letters_share_max,
        pulse=watchdog.pulse,
        open_history=lambda: history(settings),
    )
    app = create_app(settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
    folds = [under_settings(projection, settings) for projection in PROJECTIONS.values()]  # for a first version
    feeds = [add_projection(app, projection, services) for projection in folds]
    policy = planning.Policy(plan_settings(settings), pool=settings.pools[0])
    live.use(lambda changed: setattr(policy, "plan", plan_settings(changed)))
    app.add_service(rebuilds := Rebuilds(FOLDS.values(), pool, lambda: history(settings)))
    processes = (planning.process(policy), announcing.PROCESS)
    feeds += [add_process(app, process, services) for process in processes]

    async def ask_again(recorded: Recorded[Event]) -> None:
        await appender.append([recorded.envelope])

    effects = {
        files.PROJECTION.name: Effect(files.act_with(pool, store), files.away_with(store)),
        **{process.projection.name: Effect(offered_again(process, services)) for process in processes},
        DISPATCHER: Effect(ask_again),
    }
    assert set(effects) == set(OFFERED_AGAIN)
    outbox = Outbox(pool, effects, services.graves, clock, settings.effect_failures_max, watchdog.pulse)
    await outbox.create()
    app.add_service(outbox)
    feeds.append(add_effect(app, files.PROJECTION, files.wants, outbox, services))
    for name in {feed.name for feed in feeds} | effects.keys():
        metrics.PROJECTION_STANDING.labels(name).set_function(partial(standing_s, name, feeds, outbox))
    add_chores(app, live, services, store, watchdog)
    app.add_service(archives := archiver(settings, store, clock, watchdog.pulse("the archiver")))
    live.use(lambda changed: archives.use(timedelta(seconds=changed.archive_every_s)))
    app.add_service(deliveries := await deliverer(live, pool, clock, watchdog.pulse("the deliverer")))
    app.add_service(following)

    def missing() -> Mapping[str, str]:
        faults = [("archiver", archives.fault), ("deliverer", deliveries.fault), *((name, outbox.fault(name)) for name in effects)]
        faults += [(feed.name, rebuilds.fault(feed.name) or feed.fault()) for feed in feeds]
        unready = {feed.name: "has no partitions yet" for feed in feeds if not feed.ready.is_set()}
        return unready | {name: fault for name, fault in faults if fault}

    app.add_service(Server(settings, settings.processors_port, missing, lambda: {**services.warnings, **followers.notes()}))
    return app


async def build_dispatcher(settings: Settings, watchdog: Watchdog) -> App:
    """Return the app with the dispatcher alone."""
    await kafka.ensure_topics(settings)
    followers, following = await follow_settings(settings, watchdog)
    settings = followers.live.settings
    appender = appender_of(settings)
    await appender.start()
    member = kafka.member_name(settings.dispatcher_port)

    async def open_consumer(group: str | None) -> AIOKafkaConsumer:
        if group is None:
            return await kafka.open_consumer(settings, idle_ms=20)
        return await kafka.open_consumer(settings, group=group, group_instance_id=member)

    clients = Clients(
        consumer=open_consumer,
        producer=lambda transactional_id: kafka.open_producer(settings, transactional_id=transactional_id),
        append=appender.append,
        new_id=new_id,
        recall=recall_with(lambda: open_log(settings, idle_ms=50)),
        store=ObjectStore(settings),
        topic_prefix=settings.topic_prefix,
    )
    dispatcher = Dispatcher(
        clients,
        SystemClock(),
        policy_of(settings),
        settings.pools,
        owned=observe_queue,
        decided=observe_decisions,
        limit=Limit(settings.dead_letters_max, settings.dead_letters_share_max),
        pulse=watchdog.pulse("the dispatcher"),
    )
    app = create_app(settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
    followers.live.use(lambda changed: dispatcher.use(policy_of(changed)))
    app.add_service(following)
    app.add_service(dispatcher)

    def missing() -> Mapping[str, str]:
        fault = dispatcher.fault or (None if dispatcher.ready else "does not own its pools yet")
        return {DISPATCHER: fault} if fault else {}

    app.add_service(Server(settings, settings.dispatcher_port, missing, followers.notes))
    return app


def archiver(settings: Settings, store: ObjectStore, clock: SystemClock, pulse: Pulse) -> "Archiver":
    """Return the archiver of this installation."""
    from processors.archiver import Archiver, Clients  # Parquet takes 70 MB, which the dispatcher does not need

    clients = Clients(
        source=lambda: LogConsumer(settings, gather_ms=1000),  # nobody waits for it
        appender=lambda: FencedAppender(settings, "kinolog.archiver"),
        store=store,
        context=lambda: system_context("kinolog/archiver"),
    )
    return Archiver(
        clients,
        clock,
        timedelta(seconds=settings.archive_every_s),
        settings.archive_segment_records,
        settings.archive_memory_bytes,
        archived=lambda topic, records: metrics.ARCHIVED_EVENTS.labels(topic).inc(records),
        pulse=pulse,
    )


async def deliverer(live: Live, pool: postgres.Pool, clock: SystemClock, pulse: Pulse) -> Deliverer:
    """Return the deliverer of this installation."""
    settings = live.settings
    outside = Outside(settings.webhook_networks, settings.webhook_timeout_s)
    table = EndpointTable(pool, ensure_seal(settings))
    await table.ensure()
    clients = DeliveryClients(
        source=lambda: LogConsumer(settings, idle_ms=100),
        appender=lambda: FencedAppender(settings, "kinolog.deliverer"),
        connect=lambda: postgres.connected(settings),
        find=table.find,
        post=outside.post,
        context=lambda: system_context("kinolog/deliverer"),
        random=Random(),
    )
    made = Deliverer(
        clients,
        clock,
        DeliveryPolicy(settings.webhook_retries),
        sent=lambda outcome: metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc(),
        pulse=pulse,
    )

    def use(changed: Settings) -> None:
        made.policy = DeliveryPolicy(changed.webhook_retries)
        outside.timeout_s = changed.webhook_timeout_s

    live.use(use)
    return made


def history(settings: Settings) -> AbstractAsyncContextManager[Source]:
    """Open all of history."""
    from infra.runtime.history import open_history  # as above

    return open_history(settings)


def main() -> None:
    """Run until SIGTERM."""
    if sys.argv[1:] not in ([], [DISPATCHER]):
        sys.exit("usage: python -m processors [dispatcher]")
    name = DISPATCHER if sys.argv[1:] else "processors"
    del sys.argv[1:]  # Faust reads them, too
    keep_private()
    settings = resolve(Settings.from_env(os.environ), name)
    logs.configure(settings, name)
    if name == "processors":
        os.nice(NICENESS)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    watchdog = Watchdog(settings.stall_max_s)

    async def built() -> App:
        app = await (build_dispatcher if name == DISPATCHER else build)(settings, watchdog)
        watchdog.start()
        return app

    with explained(settings, name):
        app = loop.run_until_complete(built())
    memory.collect_rarely()
    sys.exit(Worker(app, loop).execute_from_commandline())


if __name__ == "__main__":
    main()

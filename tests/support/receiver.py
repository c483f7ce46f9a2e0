"""A receiver of webhooks on this machine, and the deliverer on the real log and database."""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks import Webhook

from events.envelope import Envelope, Event
from events.webhooks import Format, WebhookSaved
from infra.runtime import postgres
from infra.runtime.clock import SystemClock, new_id, system_context
from infra.runtime.endpoints import EndpointTable
from infra.runtime.fenced_appender import FencedAppender
from infra.runtime.log_consumer import LogConsumer
from infra.runtime.outside import Outside
from infra.runtime.sealing import ensure_seal
from infra.runtime.settings import Settings
from processors.agents.app import add_process, add_projection
from processors.delivering import announcing
from processors.delivering.decide import Policy
from processors.delivering.deliverer import Clients, Deliverer
from producers.webhooks import Kept, Secret, new_secret
from projections.deliveries import projection as deliveries
from tests.support.feeding import processing

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


@dataclass
class Got:
    """A request that the receiver got, and its answer."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        """The id of the delivery."""
        return self.headers.get("webhook-id") or self.headers["x-vlog-delivery-id"]

    @property
    def said(self) -> dict[str, Any]:
        """The body."""
        return dict(orjson.loads(self.body))


Behave = Callable[[Got], Awaitable[web.Response] | web.Response]


@dataclass
class Receiver:
    """Answers 204 unless `behave` says otherwise, by path."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    behave: dict[str, Behave] = field(default_factory=dict)

    def url(self, path: str = "/hook") -> str:
        """Return the address of an endpoint."""
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str = "/hook", *, taken: bool = True) -> list[Got]:
        """Return the requests at a path, by default those that it took."""
        return [got for got in self.got if got.path == path and (not taken or got.status < 300)]

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request."""
        got = Got(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read(), 204)
        self.got.append(got)
        behave = self.behave.get(request.path)
        answer: Any = web.Response(status=204) if behave is None else behave(got)
        response: web.Response = await answer if hasattr(answer, "__await__") else answer
        got.status = response.status
        return response


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Yield a receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    receiver.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield receiver
    finally:
        await runner.cleanup()


QUICK = Policy("vlog")


def deliverer(settings: Settings, outside: Outside, table: EndpointTable, policy: Policy, **more: Any) -> Deliverer:
    """Return a deliverer of these settings."""
    clients = Clients(
        source=lambda: LogConsumer(settings, idle_ms=20),
        appender=lambda: FencedAppender(settings, "kinolog.deliverer"),
        connect=lambda: postgres.connected(settings),
        find=table.find,
        post=outside.post,
        context=lambda: system_context("kinolog/deliverer"),
        random=Random(1),
    )
    return Deliverer(clients, SystemClock(), policy, **more)


@dataclass
class Delivering:
    """The running parts. `save` keeps an endpoint and puts its event on the log."""

    settings: Settings
    append: Callable[[Sequence[Envelope[Event]]], Awaitable[Any]]
    pool: Any
    table: EndpointTable
    kept: dict[str, Kept] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    async def write(self, *events: Event, subject: str) -> None:
        """Append events of a subject."""
        context = system_context("test")
        envelopes: list[Envelope[Event]] = []
        for event in events:
            id_ = new_id()
            envelopes.append(Envelope(id_, "test", subject, context.now, event, id_))
        await self.append(envelopes)

    async def save(
        self,
        url: str,
        *,
        endpoint_id: str | None = None,
        events: tuple[str, ...] = ("*",),
        active: bool = True,
        format_: Format = "standard",
        headers: Mapping[str, str] | None = None,
        secrets: tuple[Secret, ...] | None = None,
    ) -> str:
        """Save an endpoint, or its next version."""
        endpoint_id = endpoint_id or new_id()
        version = self.versions[endpoint_id] = self.versions.get(endpoint_id, 0) + 1
        before = self.kept.get(endpoint_id)
        known = secrets or (before.secrets if before else (Secret(text=new_secret(format_)),))
        kept = self.kept[endpoint_id] = Kept(url=url, headers=headers or {}, secrets=known)
        fingerprint = await self.table.keep(endpoint_id, kept)
        saved = WebhookSaved(
            endpoint_id=endpoint_id,
            version=version,
            name="receiver",
            origin="http://127.0.0.1",
            events=events,
            active=active,
            format=format_,
            fingerprint=fingerprint,
        )
        await self.write(saved, subject=endpoint_id)
        return endpoint_id

    def verify(self, endpoint_id: str, got: Got) -> None:
        """Check a signature as the official verifier does."""
        Webhook(self.kept[endpoint_id].secrets[0].text).verify(got.body, dict(got.headers))


@asynccontextmanager
async def delivering(
    settings: Settings, policy: Policy = QUICK, *, timeout_s: float = 5.0, allowed: Sequence[Any] = (LOOPBACK,), send: bool = True
) -> AsyncIterator[Delivering]:
    """Run announcing, the projection and the deliverer (unless not `send`)."""
    outside = Outside(allowed, timeout_s)
    pool = await postgres.open_pool(settings)
    table = EndpointTable(pool, ensure_seal(settings))
    await table.ensure()

    def add(app: Any, services: Any) -> list[Any]:
        feeds = [add_projection(app, deliveries.PROJECTION, services), add_process(app, announcing.PROCESS, services)]
        if send:
            app.add_service(deliverer(settings, outside, table, policy))
        return feeds

    try:
        async with processing(settings, add) as (appender, _pool, _feeds):
            yield Delivering(settings, appender.append, pool, table)
    finally:
        await outside.close()
        await pool.close()

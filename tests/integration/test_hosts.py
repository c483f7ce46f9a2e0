"""Samples of machines: from the platform, from workers here and elsewhere, through the log to the admin app."""

import asyncio
import platform as machine
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from events.hosts import HostSampled
from events.pulse import Pulse
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.clock import new_id, system_context
from infra.runtime.objects import ObjectStore
from infra.runtime.sampling import Sampler
from infra.runtime.settings import Settings
from processors.chores import Chores
from producers import hosts as producer
from producers.appender import Appender
from projections import jobs
from projections.folding.runner import install
from projections.hosts import projection as hosts
from projections.streams import projection as streams
from tests.support.apps import TOKEN, make
from tests.support.commands import kinolog
from tests.support.feeding import catch_up
from tests.support.log import appending, read_topic
from tests.support.platform import Platform
from tests.support.remote import register
from tests.support.serving import served
from tests.support.waiting import eventually
from workers import app as workers
from workers.app import Link
from workers.remote.gateway import Gateway
from workers.remote.store import GatewayStore
from workers.remote.transport import HttpTransport

HERE = machine.node()


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Any]:
    opened = await postgres.open_pool(settings)
    async with opened.connection() as connection:
        for projection in (streams.PROJECTION, jobs.PROJECTION, hosts.PROJECTION):
            await install(connection, projection)
    yield opened
    await opened.close()


def chores(settings: Settings, pool: Any, appender: Appender) -> Chores:
    context = partial(system_context, "kinolog/chores")
    day, sampler = timedelta(days=1), Sampler(settings.var_dir)
    return Chores(pool, ObjectStore(settings), appender.append, context, day, day, HERE, sampler.sample)


async def sampled(settings: Settings) -> list[HostSampled]:
    return [one.envelope.data for one in await read_topic(settings, "hosts") if isinstance(one.envelope.data, HostSampled)]


async def test_the_platform_shows_how_its_host_fares(settings: Settings, pool: Any) -> None:
    async with appending(settings) as appender, pool.connection() as connection:
        assert await chores(settings, pool, appender).sample_host(Pulse("a test")) == 1
        await catch_up(settings, await install(connection, hosts.PROJECTION), connection)
        async with served(make("admin", pool=pool)) as server:
            base = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
                shown = (await http.get("/api/v1/analytics/system")).json()
                history = (await http.get("/api/v1/analytics/system/history", params={"hours": 168})).json()
                spans = (await http.get(f"/api/hosts/{HERE}/history", params={"step": "days"})).json()["items"]
                nobody = (await http.get("/api/v1/analytics/system", params={"host": "nobody"})).json()
                refused = await http.get("/api/v1/analytics/system/history", params={"hours": 169})
            listed = await kinolog(settings, "hosts", cwd=ROOT, KINOLOG_ADMIN_URL=base, KINOLOG_ADMIN_TOKEN=TOKEN)
    data = shown["data"]
    assert shown["success"] and (data["host"], data["active_streams"], data["active_transcodes"]) == (HERE, 0, 0)
    assert data["disk_total_gb"] == round(psutil.disk_usage(str(settings.var_dir.parent)).total / 2**30, 2)
    assert 0 < data["memory_used_mb"] < psutil.virtual_memory().total / 2**20
    assert [one | {"recorded_at": data["recorded_at"]} for one in history["data"]] == [data]
    assert spans[0]["figures"]["cpu_percent"]["samples"] == 1
    assert nobody == {"success": True, "data": None} and refused.status_code in (400, 422)
    assert listed.returncode == 0 and HERE in listed.stdout and "SILENT" not in listed.stdout, listed.stderr


async def test_a_host_is_sampled_while_the_database_is_away(settings: Settings) -> None:
    away = await postgres.open_pool(settings)
    await away.close()
    async with appending(settings) as appender:
        await chores(settings, away, appender).sample_host(Pulse("a test"))
    (event,) = await sampled(settings)
    assert (event.host, event.active_streams) == (HERE, None) and event.state.memory_total_bytes > 0


async def test_a_worker_inside_samples_its_machine(settings: Settings, tmp_path: Path) -> None:
    async with appending(settings) as appender:
        link = Link("w-1", "attic", Direct(appender), ObjectStore(settings), lambda act: None, True)  # type: ignore[arg-type]
        await sampling_once(link, settings, tmp_path)
    assert {(event.host, event.name) for event in await sampled(settings)} == {(HERE, HERE)}


class Direct:
    """The part of a transport on the log that this needs."""

    def __init__(self, appender: Appender) -> None:
        self.append = appender.append


async def test_a_worker_elsewhere_sends_its_samples_through_the_worker_app(platform: Platform, tmp_path: Path) -> None:
    joined = await register(platform)
    http = httpx.AsyncClient(base_url=platform.worker.base_url, headers={"X-Worker-API-Key": joined["api_key"]})
    async with http:
        gateway = Gateway(http)
        transport = HttpTransport(gateway, pool="default", version="0.1.0", new_id=new_id)
        link = Link(joined["worker_id"], HERE, transport, GatewayStore(gateway, transport), lambda act: None, True)
        await sampling_once(link, platform.settings, tmp_path, host=joined["worker_id"])
        forged = producer.sampled(
            system_context("test"), "another-host", "x" * 255, Sampler(tmp_path).sample(), actor="worker:x", active_streams=9
        )
        await transport.append([forged])
    mine = [event for event in await sampled(platform.settings) if event.host == joined["worker_id"]]
    assert {event.active_streams for event in mine} == {None}
    assert "another-host" not in {event.host for event in await sampled(platform.settings)}

    async def shown() -> Any:
        items = (await platform.admin.get("/api/hosts")).json()["items"]
        return [one["name"] for one in items if one["host"] == joined["worker_id"]]

    await eventually(shown, lambda found: found == ["x" * 255])


async def sampling_once(link: Link, settings: Settings, directory: Path, host: str = HERE) -> None:
    """Sample until the log has one."""
    task = asyncio.create_task(workers.sample_host(link, directory, 0.05))
    await eventually(partial(sampled, settings), lambda events: any(event.host == host for event in events))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

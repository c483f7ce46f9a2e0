"""The real platform without workers of its own, its log, and a worker that may speak."""

from collections.abc import AsyncIterator

import pytest

from infra.runtime.settings import Settings
from producers.appender import Appender
from tests.conftest import new_world
from tests.support.gate import Worker
from tests.support.log import appending
from tests.support.platform import Platform
from tests.support.remote import register


@pytest.fixture(scope="package")
async def gate(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A platform without workers, so that every job is for us; no lease ends by itself and brings a job to the next test."""
    changes = {"lease_s": 3600, "lease_renew_s": 1, "backoff_base_s": 0, "worker_version_min": "0.1.0"}
    async with Platform(new_world(engine, tmp_path_factory.mktemp("gate")), workers=0, supervised=True, **changes) as running:
        yield running


@pytest.fixture
async def log(gate: Platform) -> AsyncIterator[Appender]:
    """What puts requests on the platform's log."""
    async with appending(gate.settings) as appender:
        yield appender


@pytest.fixture
async def worker(gate: Platform) -> Worker:
    """Somebody who may speak."""
    return Worker(gate, await register(gate))

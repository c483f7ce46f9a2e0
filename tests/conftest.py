"""Fixtures: the real engine, once a session; a world of one's own on it for every test; the whole platform when asked for."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from infra.local.engine import access
from infra.local.engine.endpoints import resolve
from infra.runtime.folders import private_file, private_folder
from infra.runtime.kafka import librdkafka
from infra.runtime.settings import Settings
from tests.support.engine import running_engine
from tests.support.platform import Platform

hypothesis_settings.register_profile(
    "kinolog",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # there a run says something of the change; by hand each run tries other examples
)
hypothesis_settings.load_profile("kinolog")

SHARED_ENGINE = os.environ.get("KINOLOG_TEST_ENGINE")
"""A var directory whose engine runs already: saves its start while developing."""
for name in [name for name in os.environ if name.startswith("KINOLOG_")]:
    del os.environ[name]


@pytest.fixture(scope="session")
def local_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The real Kafka, PostgreSQL and object store under supervision; stopped at the end, whatever happened."""
    directory = Path(SHARED_ENGINE) if SHARED_ENGINE else tmp_path_factory.mktemp("engine")
    with running_engine(directory, keep=SHARED_ENGINE is not None) as settings:
        yield settings


@pytest.fixture(scope="session")
def engine(local_engine: Settings) -> Settings:
    """Settings that name the engine's services as external ones."""
    return resolve(local_engine)


@pytest.fixture
def settings(engine: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a world of one's own; its topics go with it, since a killed broker reads each of them when it starts."""
    world = new_world(engine, tmp_path)
    yield world
    admin = AdminClient(librdkafka(world))
    if names := [name for name in admin.list_topics(timeout=60).topics if name.startswith(world.topic_prefix)]:
        for deleted in admin.delete_topics(names, request_timeout=60).values():
            deleted.result()
    access.ensure_rights(access.as_user(world, access.ENGINE), set())


def new_world(engine: Settings, directory: Path) -> Settings:
    """Return settings with topics, a database and a bucket that nobody else uses."""
    world = uuid.uuid4().hex[:10]
    url = engine.postgres_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE t{world}")
    var, users = directory / "var", access.passwords_file(engine)
    private_folder(var)
    private_file(private_folder(var / "run") / users.name, users.read_text())
    made = engine.model_copy(
        update={
            "topic_prefix": f"t{world}.",
            "postgres_url": SecretStr(url.rsplit("/", 1)[0] + f"/t{world}"),
            "s3_bucket": f"t{world}",
            "var_dir": var,
        }
    )
    access.ensure_rights(access.as_user(made, access.ENGINE))
    return made


@pytest.fixture(scope="session")
async def platform(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Processors, apps and one worker, shared by all tests that break nothing; others start a `Platform` of their own."""
    async with Platform(new_world(engine, tmp_path_factory.mktemp("platform")), supervised=True) as running:
        yield running


@pytest.fixture
async def recovered(platform: Platform) -> None:
    """The platform is ready, whatever the test before has done to the engine."""
    await platform.recovered()


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> None:
    """Who uses the platform finds all of it ready."""
    if "platform" in request.fixturenames:
        request.getfixturevalue("recovered")

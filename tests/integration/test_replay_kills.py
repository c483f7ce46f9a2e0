"""Archiver, rebuild and broker, killed with -9 at any point, again and again: no event missing, none doubled.

`make chaos ROUNDS=50` kills more often than `make test`.
"""

import asyncio
import os
import random
import signal
import sys
from datetime import timedelta

import pytest

from infra.local import supervision
from infra.reference.schemas import ROOT
from infra.runtime import kafka, postgres
from infra.runtime.history import open_history
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from projections.folding.rebuild import rebuild
from projections.progress import PROJECTION
from tests.support.archiving import append, archiver, in_the_archive, on_the_log
from tests.support.counting import START, ticks
from tests.support.feeding import fold_live
from tests.support.platform import environment
from tests.support.waiting import eventually

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SEED = int(os.environ.get("SEED", "0")) or os.getpid()
TICKS = 200
LATEST_S = 4.0
"""A rebuild has begun, folded and ended by then, on a quiet machine."""


async def run(settings: Settings, *module: str) -> asyncio.subprocess.Process:
    """Start a Python module of ours."""
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, cwd=ROOT, env=environment(settings), stdout=quiet, stderr=quiet
    )


async def kill_broker(engine: Settings) -> None:
    """Kill Kafka and wait until another one is there."""
    (killed,) = [row for row in supervision.status(engine) if row["name"] == "kafka"]
    os.kill(killed["pid"], signal.SIGKILL)

    def is_back() -> bool:
        (row,) = [row for row in supervision.status(engine) if row["name"] == "kafka"]
        return bool(row["ready"]) and row["pid"] != killed["pid"]  # its supervisor may not know yet that it is dead

    await eventually(is_back)


@pytest.mark.timeout(180 + 60 * ROUNDS)
async def test_killed_at_any_point_nothing_is_missing_or_doubled(settings: Settings, local_engine: Settings) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    await kafka.ensure_topics(settings)
    store = ObjectStore(settings)
    await store.ensure_bucket()
    async with postgres.connected(settings) as connection:
        for day in range(ROUNDS):  # so that files of the days before are joined meanwhile
            await append(settings, ticks(TICKS, jobs=9, start=START + timedelta(days=day)))
            await fold_live(settings, connection)
            running = [
                await run(settings, "tests.support.archiver_process"),
                await run(settings, "infra.cli", "rebuild", "progress"),
            ]
            try:
                await asyncio.sleep(LATEST_S * rng.random())
                if rng.random() < 0.3:
                    await kill_broker(local_engine)
            finally:
                for process in running:
                    if process.returncode is None:
                        process.kill()
                    await process.wait()
        expected = await on_the_log(settings)
        assert sum(map(len, expected.values())) == ROUNDS * TICKS
        service = archiver(settings, store, 40)
        await service.start()
        await eventually(lambda: in_the_archive(settings, store), lambda archived: archived == expected)
        await service.stop()
        async with open_history(settings) as history:
            done = await rebuild(PROJECTION, connection, history)
            assert done.equal is True

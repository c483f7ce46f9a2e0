"""A deliverer as a process of its own, to be killed: `python -m tests.support.deliverer_process`."""

import asyncio
import os

from infra.runtime import postgres
from infra.runtime.endpoints import EndpointTable
from infra.runtime.outside import Outside
from infra.runtime.sealing import ensure_seal
from infra.runtime.settings import Settings
from tests.support.receiver import LOOPBACK, QUICK, deliverer


async def main() -> None:
    """Deliver until the end of the process."""
    settings = Settings.from_env(os.environ)
    pool = await postgres.open_pool(settings)
    table = EndpointTable(pool, ensure_seal(settings))
    await table.ensure()
    service = deliverer(settings, Outside((LOOPBACK,), 5.0), table, QUICK)
    await service.start()
    await service.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())

"""An archiver as a process of its own, to be killed: `python -m tests.support.archiver_process`."""

import asyncio
import os

from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from tests.support.archiving import archiver

FILE_RECORDS = 40


async def main() -> None:
    """Archive until the end of the process."""
    settings = Settings.from_env(os.environ)
    service = archiver(settings, ObjectStore(settings), FILE_RECORDS)
    await service.start()
    await service.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())

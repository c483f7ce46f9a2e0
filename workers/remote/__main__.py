"""`python -m workers.remote DIR [NUMBER]`: a worker outside the cluster that has joined (`kinolog worker --join`)."""

import asyncio
import gc
import os
import platform
import sys
from pathlib import Path

import httpx

from events.errors import KinologError
from infra.runtime import logs
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from infra.runtime.version import VERSION
from workers.app import Link, reporting, work_until_stopped
from workers.remote.gateway import Gateway
from workers.remote.membership import Membership
from workers.remote.store import GatewayStore
from workers.remote.transport import HttpTransport

CONNECTIONS_MAX = 64


async def run(settings: Settings, directory: Path, number: int) -> None:
    """Work until SIGTERM or SIGINT. Raises NoMember, NotAdmitted, PortTaken."""
    member = Membership.load(directory)
    headers = {"X-Worker-API-Key": member.key, "User-Agent": f"kinolog-worker/{VERSION}"}
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX)
    async with (
        httpx.AsyncClient(base_url=member.url, headers=headers, limits=limits) as http,
        reporting(settings, directory / "telemetry") as report,
    ):
        gateway = Gateway(http)
        transport = HttpTransport(gateway, pool=settings.worker_pool, version=VERSION, new_id=new_id)
        link = Link(
            member.worker_id, platform.node(), transport, GatewayStore(gateway, transport), lambda act: act(settings), number == 1
        )
        port = settings.worker_metrics_port + number - 1
        await work_until_stopped(settings, link, directory / "work", port, report)


def main() -> None:
    """Start one worker."""
    settings = Settings.from_env(os.environ)
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    logs.configure(settings, f"worker-{number}")
    gc.freeze()
    try:
        asyncio.run(run(settings, Path(sys.argv[1]).resolve(), number))
    except KinologError as error:
        sys.exit(f"kinolog worker: {error}")


if __name__ == "__main__":
    main()

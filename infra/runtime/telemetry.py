"""A client that reports to a telemetry server: `producers.telemetry` with a connection, a clock and ids."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from infra.runtime.clock import SystemClock, new_id
from producers.telemetry import TelemetryClient

TIMEOUT_S = 4.0


@asynccontextmanager
async def telemetry_client(url: str, spool: Path) -> AsyncIterator[TelemetryClient]:
    """Yield a client that reports to the server at `url`; `spool` is a directory of its own, for waiting reports.

    At the end it tries once more to send the rest; the next client with this directory continues.
    """
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        client = TelemetryClient(http, spool, SystemClock(), new_id, random.SystemRandom())
        await client.start()
        try:
            yield client
        finally:
            await client.stop()

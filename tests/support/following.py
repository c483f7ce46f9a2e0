"""How far processes have read the topic of settings, which each applies as it reads."""

import asyncio
import re
from collections.abc import Mapping

import httpx

from events.topics import SETTINGS
from tests.support.platform import Platform
from tests.support.waiting import eventually

POSITION = re.compile(rf'^kinolog_follower_position_offset{{topic="{SETTINGS.name}"}} (\S+)$', re.MULTILINE)


def ports_of(platform: Platform) -> list[int]:
    """Return where each process of a platform shows its metrics."""
    return [platform.port_of(name) for name in platform.names]


async def positions(http: httpx.AsyncClient, ports: list[int]) -> dict[int, float]:
    """Return the position of each process on the topic of settings."""
    return dict(zip(ports, await asyncio.gather(*(_position(http, port) for port in ports)), strict=True))


async def moved(http: httpx.AsyncClient, before: Mapping[int, float]) -> None:
    """Wait until each process has applied one more change."""
    await asyncio.gather(*(_moved(http, port, at) for port, at in before.items()))


async def _moved(http: httpx.AsyncClient, port: int, before: float) -> None:
    await eventually(lambda: _position(http, port), lambda at: at > before)


async def _position(http: httpx.AsyncClient, port: int) -> float:
    """Return a process's position; 0 before its first record."""
    found = POSITION.search((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
    return float(found[1]) if found else 0.0

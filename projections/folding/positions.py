"""Positions of answers on the log: header `X-Log-Position: videos:0=12,1=7;jobs:2=5` (topic:partition=next offset).

A reader takes the positions in the same transaction as the rows. A client reads its own writes by sending a write's position as
`X-Min-Position`.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from events.errors import InvalidRequest
from events.topics import TOPICS
from projections.folding.queries import load

_SQL = load(Path(__file__).with_name("runner.sql"))
_HEADER = re.compile(r"[a-z-]+:\d+=\d+(,\d+=\d+)*(;[a-z-]+:\d+=\d+(,\d+=\d+)*)*", re.ASCII)
HEADER_LENGTH_MAX = 4096
DIGITS_MAX = 18
"""Largest offset: 63 bits."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Next offset to read, by (topic, partition)."""

    next: dict[tuple[str, int], int]

    def header(self) -> str:
        """Return the header's text; topics and partitions in order."""
        topics: dict[str, list[str]] = {}
        for (topic, partition), position in sorted(self.next.items()):
            topics.setdefault(topic, []).append(f"{partition}={position}")
        return ";".join(f"{topic}:{','.join(parts)}" for topic, parts in topics.items())

    @classmethod
    def parse(cls, text: str) -> "Positions":
        """Parse the header's text. Raises InvalidRequest for any other text and for an unknown topic."""
        if len(text) > HEADER_LENGTH_MAX or not _HEADER.fullmatch(text):
            raise InvalidRequest("X-Min-Position wants topic:partition=offset, as X-Log-Position answers it")
        found = {}
        for group in text.split(";"):
            topic, _, parts = group.partition(":")
            if topic not in TOPICS:
                raise InvalidRequest(f"X-Min-Position names an unknown topic: {topic}")
            for part in parts.split(","):
                partition, _, position = part.partition("=")
                if len(partition) > DIGITS_MAX or len(position) > DIGITS_MAX:
                    raise InvalidRequest("X-Min-Position names a partition or an offset that no log has")
                found[topic, int(partition)] = int(position)
        return cls(found)

    def reached(self, minimum: "Positions") -> bool:
        """Return whether these are at or past `minimum` in the partitions of both."""
        return all(self.next[key] >= least for key, least in minimum.next.items() if key in self.next)


async def snapshot(connection: AsyncConnection[Any], projection: str) -> Positions:
    """Return the positions of the active version; inside a repeatable-read transaction they fit the rows read there."""
    cursor = await connection.execute(_SQL["active_positions"], {"name": projection})
    return Positions({(topic, partition): position for topic, partition, position in await cursor.fetchall()})


async def newest(connection: AsyncConnection[Any], projection: str) -> datetime | None:
    """Return the time of the newest event that the active version has folded."""
    cursor = await connection.execute(_SQL["newest"], {"name": projection})
    found = await cursor.fetchone()
    return found[0] if found else None


async def is_served(connection: AsyncConnection[Any], projection: str) -> bool:
    """Return whether the projection has a version that readers can use."""
    cursor = await connection.execute(_SQL["is_installed"])
    if await cursor.fetchone() == (False,):
        return False
    cursor = await connection.execute(_SQL["active"], {"name": projection})
    return await cursor.fetchone() is not None


async def wait_for(
    pool: AsyncConnectionPool[AsyncConnection[Any]], projection: str, minimum: Positions, timeout_s: float = 2.0
) -> bool:
    """Wait until the projection has folded up to `minimum`; return False when it did not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                async with pool.connection() as connection:
                    if (await snapshot(connection, projection)).reached(minimum):
                        return True
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False

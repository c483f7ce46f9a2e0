"""State that no fold of the log can rebuild: how far each effect outside has acted."""

from typing import Any

from psycopg import AsyncConnection

from processors import files
from projections.folding.fold import Projection
from projections.folding.positions import is_served
from projections.folding.runner import install
from projections.folding.store import SQL, activate, create_version
from projections.history.backup import Memory

EFFECTS: dict[str, Projection] = {files.PROJECTION.name: files.PROJECTION}


async def remembered(connection: AsyncConnection[Any]) -> list[Memory]:
    """Return how far all effects have acted, at one moment; nothing of an effect that was never started."""
    found = []
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for projection in EFFECTS.values():
            if await is_served(connection, projection.name):
                runner = await install(connection, projection)
                values = {"name": projection.name, "version": runner.version}
                positions = await (await connection.execute(SQL["positions"], values)).fetchall()
                found.append(Memory(name=projection.name, positions=tuple(positions)))
    return found


async def remember(connection: AsyncConnection[Any], memories: tuple[Memory, ...]) -> None:
    """Let the effects go on from there. Existing positions stay; memories of a process that is a fold by now are left out."""
    for memory in memories:
        if (projection := EFFECTS.get(memory.name)) is None:
            continue
        async with connection.transaction():
            await connection.execute(SQL["lock_installation"])
            await connection.execute(SQL["create"])
            if await is_served(connection, memory.name):
                continue
            await create_version(connection, projection, 1)
            await activate(connection, projection, 1)
            for topic, partition, position, folded, time in memory.positions:
                at = {"name": memory.name, "version": 1, "topic": topic, "partition": partition, "start": 0}
                moved = {"next": position, "folded": folded, "event_time": time}
                await connection.execute(SQL["move_position"], at | moved)

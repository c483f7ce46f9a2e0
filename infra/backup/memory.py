"""State of processes that no fold of the log can rebuild: how far each acted, and the rows about its actions."""

from typing import Any

from psycopg import AsyncConnection

from processors import files
from processors.planning import process as planning
from projections.folding.fold import Projection
from projections.folding.positions import is_served
from projections.folding.runner import Runner, install
from projections.folding.store import SQL, activate, create_version
from projections.history.backup import Memory

PROCESSES: tuple[Projection, ...] = (planning.PROJECTION, files.PROJECTION)


async def remembered(connection: AsyncConnection[Any]) -> list[Memory]:
    """Return the state of the processes, all at one moment; nothing of a process that never started."""
    found = []
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for projection in PROCESSES:
            if not await is_served(connection, projection.name):
                continue
            runner = await install(connection, projection)
            values = {"name": projection.name, "version": runner.version}
            positions = await (await connection.execute(SQL["positions"], values)).fetchall()
            stores = runner.stores
            rows = {store.table.name: await store.dump(connection) for store in stores}
            found.append(Memory(name=projection.name, positions=tuple(positions), rows=rows))
    return found


async def remember(connection: AsyncConnection[Any], memories: tuple[Memory, ...]) -> None:
    """Restore the state of the processes. Existing state stays."""
    known = {projection.name: projection for projection in PROCESSES}
    for memory in memories:
        projection = known[memory.name]
        async with connection.transaction():
            await connection.execute(SQL["lock_installation"])
            await connection.execute(SQL["create"])
            if await is_served(connection, memory.name):
                continue
            await create_version(connection, projection, 1)
            await activate(connection, projection, 1)
            for store in Runner(projection, 1, live=False).stores:
                await store.load(connection, memory.rows[store.table.name])
            for topic, partition, position, folded, time in memory.positions:
                place = {"name": memory.name, "version": 1, "topic": topic, "partition": partition, "start": 0}
                moved = {"next": position, "folded": folded, "event_time": time}
                await connection.execute(SQL["move_position"], place | moved)

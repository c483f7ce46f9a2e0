"""Ends connections whose request does not get on, as slow clients send them on purpose.

The server has a limit for idle connections, and batches have limits of their own. A head that trickles in, the body of
one event that does, and a body that goes on after its request was answered, have none but this. A look around once a
second costs the requests nothing, where a timer for each would cost a tenth of the time they take.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from api.telemetry.ingest import EVENT

Waiting = dict[Any, tuple[Any, float]]
"""By connection: its request, and the time in seconds at which it was first seen to wait for more of it."""

REQUEST_S = 10.0
LOOK_S = 1.0
ANSWER = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


async def end_slow(connections: Iterable[Any]) -> None:
    """Look at the connections of a `uvicorn.Server`, its httptools protocols, for ever."""
    clock = asyncio.get_running_loop().time
    waiting: Waiting = {}
    while True:
        waiting = look(connections, waiting, now=clock())
        await asyncio.sleep(LOOK_S)


def look(connections: Iterable[Any], waiting: Waiting, *, now: float) -> Waiting:
    """End those that wait for one request for longer than `REQUEST_S`; return which wait for what, and since when."""
    still: Waiting = {}
    for connection in tuple(connections):
        if not _waits_for_client(connection):
            continue
        cycle, since = waiting.get(connection, (None, now))
        if cycle is not connection.cycle:
            since = now
        still[connection] = connection.cycle, since
        if now - since > REQUEST_S:
            connection.transport.write(ANSWER)
            connection.transport.close()
    return still


def _waits_for_client(connection: Any) -> bool:
    """Tell whether it is the client's turn to send, and no other limit holds."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None  # some of a head has come, or a first one is due
    return bool(cycle.more_body and cycle.scope["path"] == EVENT)

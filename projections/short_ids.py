"""Short ids for people: eight characters of a UUID instead of 36. Every command prints and accepts them.

A UUIDv7 (videos, workers) begins with the time, so ids of one minute begin alike: its last eight characters distinguish it.
Any other UUID (jobs) is shortened to its first eight. People may type any beginning or end of an id, of at least eight
characters, that no other id shares.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from events.errors import InvalidRequest

if TYPE_CHECKING:  # the command line shortens ids and has no database
    from psycopg import AsyncConnection

CHARACTERS = 8
WHOLE = 36


def short_id(id_: str) -> str:
    """Return the short form of an id; an id that is not a UUID is returned whole.

    >>> short_id("01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"), short_id("f6c1070f-269c-5077-ada5-69a29a7c5990"), short_id("gpu-2")
    ('9b6c1d04', 'f6c1070f', 'gpu-2')
    """
    try:
        version = UUID(id_).version
    except ValueError:
        return id_
    return id_[-CHARACTERS:] if version == 7 else id_[:CHARACTERS]


def fits(which: str, id_: str) -> bool:
    """Return whether `which` is this id, or a sufficiently long beginning or end of it. Pure."""
    return which == id_ or (CHARACTERS <= len(which) < WHOLE and (id_.startswith(which) or id_.endswith(which)))


async def whole_id(connection: "AsyncConnection[Any]", query: LiteralString, which: str) -> str:
    """Return the id that `which` is part of; return `which` itself when it is a whole id or no id matches.

    `query` takes `part` and returns at most two ids that begin or end with it. Raises InvalidRequest when there are two.
    """
    if not CHARACTERS <= len(which) < WHOLE:
        return which
    cursor = await connection.execute(query, {"part": which})
    return only(which, [id_ for (id_,) in await cursor.fetchall()])


def only(which: str, found: Collection[str]) -> str:
    """Return the only id found, or `which` itself when none was found. Raises InvalidRequest when there are several."""
    if len(found) > 1:
        some = " and ".join(sorted(found)[:2])
        raise InvalidRequest(f"{which} fits several ids, as {some}; write more of the one that is meant")
    return next(iter(found), which)

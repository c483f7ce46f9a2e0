"""Ids as people write them: eight characters of a UUID instead of 36. Every command shows these, and takes them.

A UUIDv7 (videos, workers) begins with the time, so that those of one minute begin alike: its end tells them apart. Any
other UUID (jobs) is shortened to its beginning. A person may write any beginning or end of an id, from eight characters
on, that no other id has.
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
    """Return the short form of an id; of one that is no UUID, the id itself.

    >>> short_id("01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"), short_id("f6c1070f-269c-5077-ada5-69a29a7c5990"), short_id("gpu-2")
    ('9b6c1d04', 'f6c1070f', 'gpu-2')
    """
    try:
        version = UUID(id_).version
    except ValueError:
        return id_
    return id_[-CHARACTERS:] if version == 7 else id_[:CHARACTERS]


def fits(which: str, id_: str) -> bool:
    """Tell whether `which` is this id, or long enough a beginning or end of it. Pure."""
    return which == id_ or (CHARACTERS <= len(which) < WHOLE and (id_.startswith(which) or id_.endswith(which)))


async def whole_id(connection: "AsyncConnection[Any]", query: LiteralString, which: str) -> str:
    """Return the id that `which` is a part of, or `which` itself when it is a whole id or part of none.

    `query` takes `part` and returns the ids that begin or end so, at most two. Raises InvalidRequest when there are two.
    """
    if not CHARACTERS <= len(which) < WHOLE:
        return which
    cursor = await connection.execute(query, {"part": which})
    return only(which, [id_ for (id_,) in await cursor.fetchall()])


def only(which: str, found: Collection[str]) -> str:
    """Return the one id that was found by a part of it; `which` itself for none. Raises InvalidRequest when there are several."""
    if len(found) > 1:
        some = " and ".join(sorted(found)[:2])
        raise InvalidRequest(f"{which} fits several ids, as {some}; write more of the one that is meant")
    return next(iter(found), which)

"""Viewers: the ids of people and browsers on the log, and the salts without which nobody can trace them back.

An id is a keyed hash of a person's id, or of the secret in a browser's cookie, under a salt of its own. With the row, the salt is
gone: the events stay and count, and nobody can say whose they are.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from infra.runtime.postgres import Pool
from infra.runtime.tables import Queries
from projections.folding.queries import load

SALT_BYTES = 32
ID_BYTES = 16
_SQL = load(Path(__file__).with_suffix(".sql"))


class Viewers:
    """The table `viewers.viewers`. Every method raises Retryable while PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._queries = Queries(pool, _SQL)
        self.ensure = self._queries.ensure

    async def of_browser(self, secret: str) -> str:
        """Return the viewer that is known to a browser by the secret in its cookie."""
        return await self._found(sha256(b"browser " + secret.encode()).digest(), None)

    async def of_person(self, user_id: str) -> str:
        """Return the viewer that a person is."""
        return await self._found(sha256(b"person " + user_id.encode()).digest(), user_id)

    async def users(self, viewer_ids: Collection[str]) -> dict[str, str]:
        """Return the people among some viewers, by viewer."""
        return dict(await self._queries.ask("users", viewer_ids=list(viewer_ids)))

    async def viewer_of(self, user_id: str) -> str | None:
        """Return the viewer that a person is, if they have watched anything."""
        found = await self._queries.ask("of_user", user_id=user_id)
        return found[0][0] if found else None

    async def forget(self, viewer_id: str) -> bool:
        """Delete a viewer's salt for good; return whether there was one."""
        return bool(await self._queries.ask("forget", viewer_id=viewer_id))

    async def has_key(self, viewer_id: str) -> bool:
        """Return whether there is a key behind a viewer's id."""
        return bool(await self._queries.ask("known", viewer_id=viewer_id))

    async def _found(self, subject: bytes, user_id: str | None) -> str:
        found = await self._queries.ask("find", subject=subject)
        if not found:
            salt = secrets.token_bytes(SALT_BYTES)
            id_ = urlsafe_b64encode(hmac.digest(salt, subject, "sha256")[:ID_BYTES]).decode().rstrip("=")
            await self._queries.change("add", subject=subject, salt=salt, viewer_id=id_, user_id=user_id)
            found = await self._queries.ask("find", subject=subject)
        return str(found[0][0])

"""Addresses, headers and secrets of endpoints outside: each version that an event may name, sealed, in PostgreSQL."""

from pathlib import Path

from infra.runtime.postgres import Pool
from infra.runtime.sealing import Seal
from infra.runtime.tables import Queries
from producers.webhooks import Kept
from projections.folding.queries import load

_SQL = load(Path(__file__).with_suffix(".sql"))


class EndpointTable:
    """The table `webhooks.endpoints`. Every method raises Retryable while PostgreSQL is away."""

    def __init__(self, pool: Pool, seal: Seal) -> None:
        self._seal = seal
        self._queries = Queries(pool, _SQL)
        self.ensure = self._queries.ensure

    async def keep(self, endpoint_id: str, kept: Kept) -> str:
        """Keep a version beside the others; return its fingerprint. It counts when an event on the log names it."""
        fingerprint = kept.fingerprint()
        sealed = self._seal.close(f"webhook {endpoint_id}", kept.model_dump_json())
        await self._queries.change("keep", endpoint_id=endpoint_id, fingerprint=fingerprint, kept=sealed)
        return fingerprint

    async def find(self, endpoint_id: str, fingerprint: str) -> Kept | None:
        """Return a version; None when it is not here. Raises Sealed when it cannot be read with this machine's key."""
        found = await self._queries.ask("find", endpoint_id=endpoint_id, fingerprint=fingerprint)
        return Kept.model_validate_json(self._seal.open(f"webhook {endpoint_id}", found[0][0])) if found else None

    async def forget(self, endpoint_id: str, *but: str) -> None:
        """Delete the versions of an endpoint, but some: the deliverer may still send by the one before."""
        await self._queries.change("forget", endpoint_id=endpoint_id, but=list(but))

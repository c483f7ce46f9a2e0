"""The catalog's readers among 100,000 videos; see catalog.py."""

from collections.abc import Sequence

from infra.runtime.settings import Settings
from tests.bench import catalog
from tests.bench.figures import Figure


async def catalog_readers(settings: Settings) -> Sequence[Figure]:
    """Return the medians of each reader."""
    return await catalog.run(settings.postgres_url.get_secret_value())

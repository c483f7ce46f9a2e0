"""Databases of the past, for the admin app and the command line."""

from infra.runtime import postgres
from infra.runtime.history import open_history
from infra.runtime.settings import Settings
from processors.registry import FOLDS
from projections.history.past import Past


def past_of(settings: Settings) -> Past:
    """Return the maker of databases of the past."""
    return Past(
        lambda database: postgres.connected(settings, database),
        lambda: open_history(settings),
        postgres.database_of(settings),
        FOLDS.values(),
    )

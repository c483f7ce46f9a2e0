"""Addresses of Kafka and PostgreSQL, for commands that talk to them directly."""

import os
from typing import TYPE_CHECKING

from infra.commands.support.exits import Away

if TYPE_CHECKING:
    from infra.runtime.settings import Settings


def settings_of_services() -> "Settings":
    """Return the environment's settings, with the local engine's addresses filled in. Raises InvalidSettings."""
    import stamina

    from infra.local.engine.endpoints import resolve
    from infra.runtime.settings import Settings

    stamina.instrumentation.set_on_retry_hooks([])  # they would print between the lines of an answer
    return resolve(Settings.from_env(os.environ))


def refused(error: BaseException) -> str | None:
    """Return a sentence about a service that refuses its user, after a fault of a service; None when none does."""
    if isinstance(error, Away):  # it was the admin app
        return None
    from infra.runtime.refused_credentials import refusal

    return refusal(settings_of_services())

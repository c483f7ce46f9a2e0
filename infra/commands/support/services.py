"""Where Kafka and PostgreSQL are, for the commands that talk to them directly."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.runtime.settings import Settings


def settings_of_services() -> "Settings":
    """Return the environment's settings, with the local engine's addresses filled in. Raises InvalidSettings."""
    import stamina

    from infra.local.engine.endpoints import resolve
    from infra.runtime.settings import Settings

    stamina.instrumentation.set_on_retry_hooks([])  # they would print between the lines of an answer
    return resolve(Settings.from_env(os.environ))

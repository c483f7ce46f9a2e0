"""This installation's policy of leases and retries, from its settings."""

from datetime import timedelta

from infra.runtime.settings import Settings
from processors.dispatch.state import Policy


def policy_of(settings: Settings) -> Policy:
    """Return the operator's policy of leases and retries."""
    return Policy(
        lease=timedelta(seconds=settings.lease_s),
        attempts_max=settings.attempts_max,
        backoff_base=timedelta(seconds=settings.backoff_base_s),
        quarantine_after=settings.quarantine_after,
        quarantine=timedelta(seconds=settings.quarantine_s),
    )

"""How this installation decides about leases and retries, as its settings say."""

from datetime import timedelta

from infra.runtime.settings import Settings
from processors.dispatch.state import Policy


def policy_of(settings: Settings) -> Policy:
    """Return what the operator decided about leases and retries."""
    return Policy(
        lease=timedelta(seconds=settings.lease_s),
        attempts_max=settings.attempts_max,
        backoff_base=timedelta(seconds=settings.backoff_base_s),
        quarantine_after=settings.quarantine_after,
        quarantine=timedelta(seconds=settings.quarantine_s),
    )

"""The rules of viewing, from this installation's settings."""

from infra.runtime.settings import Settings
from projections.folding.fold import Projection
from projections.streams.rules import Rules


def rules_of(settings: Settings) -> Rules:
    """Return the operator's rules of viewing."""
    return Rules(
        zone=settings.viewing_zone,
        expiry_ms=settings.viewing_expiry_s * 1000,
        watched_min_ms=settings.viewing_play_min_s * 1000,
        back_max_ms=settings.viewing_merge_back_s * 1000,
        completed_percent=settings.viewing_completed_percent,
    )


def under_settings(projection: Projection, settings: Settings) -> Projection:
    """Return the projection under the rules of these settings; one without rules as it is."""
    return projection.under(tuple(rules_of(settings)._asdict().items())) if projection.under else projection

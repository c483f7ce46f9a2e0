"""The report on failures by Reencodarr's rules (contracts §1.5): counts, patterns, recommendations and urgent failures."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg import AsyncConnection
from pydantic import BaseModel, Field

from projections.failures import projection as failures
from projections.failures.projection import Count, FailureShown, Pattern

RECENT_MAX = 20
CRITICAL_MAX = 100
Severity = Literal["high", "medium", "low"]
_SEVERITY: dict[str, Severity] = {
    "resource_exhaustion": "high",
    "system_environment": "high",
    "timeout": "medium",
    "file_operations": "low",
}
"""Critical categories: faults of machines, not of files."""
_CRITICAL_CODES = frozenset({"EXIT_137", "EXIT_143", "TIMEOUT", "RESOURCE_MEMORY", "ENV"})
_WORDS: dict[str, tuple[str, str]] = {
    "resource_exhaustion": ("failures for want of memory or disk", "Look at the machines' memory and disks; give ffmpeg less."),
    "system_environment": ("failures of the machines themselves", "Check permissions, disks and the system log of these workers."),
    "file_operations": ("files that could not be moved or stored", "Check that the object store answers and has room."),
}


class Summary(BaseModel):
    """Totals of the period. The rate is a percentage with one decimal, 0.0 when nothing failed."""

    total_failures: int = Field(examples=[23])
    resolved_failures: int
    unresolved_failures: int
    resolution_rate_percent: float
    period_days: int


class StageCount(BaseModel):
    """Totals of one stage."""

    stage: str
    total: int
    resolved: int
    unresolved: int


class CategoryCount(BaseModel):
    """Totals of one category, over all stages."""

    category: str
    total: int
    resolved: int
    unresolved: int


class Recommendation(BaseModel):
    """A recommended action and its reason."""

    priority: Literal["high", "medium"]
    title: str
    description: str
    action: str


class Critical(BaseModel):
    """A failure that needs a person soon."""

    severity: Severity
    failure: FailureShown


class FailureReport(BaseModel):
    """The report. `common_patterns` cover all time, the rest the period; `resolution_rate` is None when nothing failed."""

    summary: Summary
    by_stage: list[StageCount]
    by_category: list[CategoryCount]
    common_patterns: list[Pattern]
    recent_failures: list[FailureShown]
    critical_failures: list[Critical]
    resolution_rate: float | None
    recommendations: list[Recommendation]


async def report(connection: AsyncConnection[Any], now: datetime, *, days: int, limit: int) -> FailureReport:
    """Return the report on the `days` before `now`, with at most `limit` patterns."""
    since = now - timedelta(days=days)
    counted = await failures.counts(connection, since)
    unresolved = await failures.listing(connection, limit=CRITICAL_MAX, since=since, resolved=False)
    return compose(counted, await failures.patterns(connection, limit), unresolved, days)


def compose(counted: Sequence[Count], patterns: Sequence[Pattern], unresolved: Sequence[FailureShown], days: int) -> FailureReport:
    """Compose the report. Pure."""
    total, resolved = sum(count.total for count in counted), sum(count.resolved for count in counted)
    rate = round(100 * resolved / total, 1) if total else None
    by_stage = [StageCount(stage=name, total=t, resolved=r, unresolved=t - r) for name, t, r in _by(counted, "stage")]
    by_category = [CategoryCount(category=name, total=t, resolved=r, unresolved=t - r) for name, t, r in _by(counted, "category")]
    return FailureReport(
        summary=Summary(
            total_failures=total,
            resolved_failures=resolved,
            unresolved_failures=total - resolved,
            resolution_rate_percent=rate or 0.0,
            period_days=days,
        ),
        by_stage=by_stage,
        by_category=by_category,
        common_patterns=list(patterns),
        recent_failures=list(unresolved[:RECENT_MAX]),
        critical_failures=[Critical(severity=level, failure=one) for one in unresolved if (level := severity(one)) is not None],
        resolution_rate=rate,
        recommendations=recommendations(by_stage, by_category),
    )


def severity(failure: FailureShown) -> Severity | None:
    """Return a failure's severity; None when it is not critical. Pure."""
    if failure.category in _SEVERITY:
        return _SEVERITY[failure.category]
    return "high" if failure.code in _CRITICAL_CODES else None


def recommendations(by_stage: Sequence[StageCount], by_category: Sequence[CategoryCount]) -> list[Recommendation]:
    """Return recommended actions, the most urgent first. Pure.

    Triggers: more than 10 failures of a stage with more than 70 % unresolved, more than 5 of a category that machines
    cause, more than 3 for lack of resources.
    """
    found = [
        Recommendation(
            priority="high",
            title=f"{_title(stage.stage)} keeps failing",
            description=f"{stage.unresolved} of {stage.total} failures of this stage are open",
            action="Look at its most common pattern below, and run one of its failures again: kinolog failures rerun ID",
        )
        for stage in by_stage
        if stage.total > 10 and stage.unresolved / stage.total > 0.7
    ]
    for count in by_category:
        if count.category not in _WORDS:
            continue
        exhausted = count.category == "resource_exhaustion" and count.total > 3
        if exhausted or count.total > 5:
            what, action = _WORDS[count.category]
            found.append(
                Recommendation(
                    priority="high" if exhausted else "medium",
                    title=_title(count.category),
                    description=f"{count.total} {what}",
                    action=action,
                )
            )
    return sorted(found, key=lambda recommendation: recommendation.priority != "high")


def _by(counted: Iterable[Count], name: Literal["stage", "category"]) -> list[tuple[str, int, int]]:
    """Return (name, total, resolved), the largest first."""
    totals: dict[str, tuple[int, int]] = {}
    for count in counted:
        total, resolved = totals.get(getattr(count, name), (0, 0))
        totals[getattr(count, name)] = (total + count.total, resolved + count.resolved)
    return sorted(((key, *sums) for key, sums in totals.items()), key=lambda item: (-item[1], item[0]))


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()

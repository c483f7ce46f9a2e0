"""`GET /api/v2/insights…`: a comparison of hardware and encoders, with confidence and trend.

Jobs count once, failures are shown beside attempts, and values come with intervals. Groups with too few reports are hidden. A
repeated answer may be up to 10 s old (`api.telemetry.answers`).
"""

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.problems import documented
from api.telemetry.answers import KeptRoute
from api.telemetry.insights import MAX_AGE_S
from api.telemetry.reading import Readings
from api.telemetry.services import Services
from events.errors import NotFound
from events.text import Line as Word
from projections.telemetry import estimates
from projections.telemetry.insights import NOTHING, Group, Label, Selection

routes = APIRouter(tags=["insights"], route_class=KeptRoute)
CSV = "text/csv"
MINIMUM_MAX = 10**6
_is_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
Rounded = Annotated[float, AfterValidator(lambda value: round(value, 6))]
"""Fields known to fewer digits than a float has."""
LABELS = ("at", "hardware", "encoder", "codec", "resolution", "reason")
"""First columns of a CSV."""
_RISKY = ("=", "+", "-", "@")
"""First characters that make a spreadsheet read a text as a formula."""


class Estimate(BaseModel):
    """A rate, 0..1, with its 95 % interval (Wilson)."""

    model_config = ConfigDict(from_attributes=True)

    value: Rounded = Field(examples=[0.961])
    low: Rounded = Field(examples=[0.931])
    high: Rounded = Field(examples=[0.978])


class Speed(BaseModel):
    """Seconds of video per second: mean with its 95 % t interval; quantiles of a sketch, within 1 %."""

    model_config = ConfigDict(from_attributes=True)

    samples: int = Field(examples=[240])
    mean: Rounded = Field(examples=[2.71])
    low: Rounded = Field(examples=[2.64])
    high: Rounded = Field(examples=[2.78])
    median: Rounded = Field(examples=[2.65])
    p10: Rounded = Field(examples=[1.92])
    p90: Rounded = Field(examples=[3.6])


class Outcomes(BaseModel):
    """Outcomes of jobs. `jobs` counts each once: the larger of `started` and `finished`."""

    jobs: int = Field(examples=[252])
    started: int = Field(examples=[252])
    finished: int = Field(examples=[250])
    succeeded: int = Field(examples=[240])
    failed: int = Field(examples=[10])
    success_rate: Estimate | None
    speed: Speed | None
    size_reduction_percent: Rounded | None = Field(examples=[41.4])


class Item(Outcomes):
    """Jobs of one hardware, encoder, codec and resolution; null where nodes did not say."""

    hardware: str | None = Field(examples=["Intel"])
    encoder: str | None = Field(examples=["av1_qsv"])
    codec: str | None = Field(examples=["av1"])
    resolution: str | None = Field(examples=["1080p"])


class Insights(BaseModel):
    """A page of the leaderboard. `total` counts visible groups; `all` is the whole selection, hidden groups included."""

    version: Literal[2] = Field(2, alias="schema")
    all: Outcomes
    total: int = Field(examples=[1])
    items: list[Item]


class Failure(BaseModel):
    """Number of an encoder's jobs that failed for a reason, beside all its jobs that succeeded or failed."""

    encoder: str | None = Field(examples=["av1_qsv"])
    reason: str | None = Field(examples=["transcode_failed"])
    count: int = Field(examples=[8])
    attempts: int = Field(examples=[250])
    rate: Estimate


class Failures(BaseModel):
    """Reasons, the most frequent for its attempts first."""

    items: list[Failure]


class Point(Outcomes):
    """Jobs of a day or of a version."""

    at: str = Field(examples=["2026-03-01"])


class Trend(BaseModel):
    """Days or versions, in order."""

    by: Literal["day", "version"]
    items: list[Point]


class Difference(BaseModel):
    """`significant`: if both were alike, chance would make at least this difference in less than 5 % of cases."""

    model_config = ConfigDict(from_attributes=True)

    value: Rounded = Field(examples=[0.031])
    low: Rounded | None = Field(examples=[0.004])
    high: Rounded | None = Field(examples=[0.06])
    p_value: float = Field(examples=[0.02])
    significant: bool = Field(examples=[True])


class Side(Outcomes):
    """One side of the comparison."""

    encoder: str = Field(examples=["av1_qsv"])


class Line(Side):
    """A side in CSV: the verdict stands in both lines."""

    faster: Difference | None
    rate_difference: Difference | None


class Comparison(BaseModel):
    """`faster`: the chance that a job of the first is faster than one of the second, 0.5 for equals (Mann-Whitney U).

    `success_rate`: the first's minus the second's, with Newcombe's interval and a z test.
    """

    encoders: list[Side]
    faster: Difference | None
    success_rate: Difference | None


def _day(text: object) -> date:
    """Read a day in its usual form only, as the document promises."""
    if not isinstance(text, str) or not _is_day(text):
        raise ValueError("wants a day as 2026-03-01")
    return date.fromisoformat(text)


Day = Annotated[date, BeforeValidator(_day)]
Text = Annotated[Word | None, Query(min_length=1, max_length=128)]


async def select(
    hardware: Text = None,
    encoder: Text = None,
    codec: Text = None,
    resolution: Text = None,
    version: Annotated[Word | None, Query(min_length=1, max_length=64, description="`app_version` of the nodes.")] = None,
    since: Annotated[Day | None, Query(description="First day, UTC.")] = None,
    until: Annotated[Day | None, Query(description="Last day, UTC, inclusive.")] = None,
) -> Selection:
    """Return the selection of outcomes from the query."""
    return Selection(hardware, encoder, codec, resolution, version, since, until)


async def readings(request: Request) -> Readings:
    """Return the app's readings."""
    services: Services = request.app.state.services
    return services.readings


Selected = Annotated[Selection, Depends(select)]
Given = Annotated[Readings, Depends(readings)]
Format = Annotated[Literal["json", "csv"], Query(alias="format", description="CSV has a line for each item.")]
SamplesMin = Annotated[
    int | None,
    Query(ge=1, le=MINIMUM_MAX, description="Minimum finished jobs of a group; never fewer than the floor."),
]
AS_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {"schema": {"type": "string"}}}}}
SORTS: dict[str, Callable[[Item], float | None]] = {
    "speed": lambda item: item.speed.median if item.speed else None,
    "success_rate": lambda item: item.success_rate.low if item.success_rate else None,
    "size_reduction": lambda item: item.size_reduction_percent,
    "jobs": lambda item: item.jobs,
}


@routes.get("/api/v2/insights", response_model=Insights, responses={**AS_CSV, **documented(422)})
async def insights(
    given: Given,
    selection: Selected,
    samples_min: SamplesMin = None,
    sort: Annotated[Literal["speed", "success_rate", "size_reduction", "jobs"], Query()] = "speed",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
    as_format: Format = "json",
) -> Response:
    """Compare hardware, encoder, codec and resolution: success, speed and size, the best first.

    Sorted by the median speed, by the lower end of the success rate's interval, by the reduction of size, or by the count of
    jobs. Groups with fewer finished jobs than `samples_min` are left out, groups below the installation's floor always; `all`
    counts them.
    """
    async with given.open() as (reader, position):
        everything = await reader.groups(selection, (), given.limits.floor)
        found = await reader.groups(selection, ("hardware", "encoder", "codec", "resolution"), minimum(given, samples_min))
    key = SORTS[sort]

    def reckon() -> Insights:
        items = [Item(**known(group, "hardware", "encoder", "codec", "resolution"), **outcomes(group)) for group in found]
        items.sort(key=lambda item: -(key(item) or 0.0))  # stable: of equals, those with more jobs first, then by name
        return Insights(
            all=Outcomes(**outcomes(everything[0] if everything else NOTHING)),
            total=len(items),
            items=items[offset : offset + limit],
        )

    reckoned = await asyncio.to_thread(reckon)
    return answer(reckoned, Item, reckoned.items, position, as_format)


@routes.get("/api/v2/insights/failures", response_model=Failures, responses={**AS_CSV, **documented(422)})
async def failures(given: Given, selection: Selected, samples_min: SamplesMin = None, as_format: Format = "json") -> Response:
    """Show why jobs of each encoder fail, beside the number of attempts: 80 failures of 100,000 jobs are fewer than 8 of 80."""
    async with given.open() as (reader, position):
        tried = {group.encoder: group for group in await reader.groups(selection, ("encoder",), minimum(given, samples_min))}
        reasons = await reader.reasons(selection)
    items = []
    for encoder, reason, count in reasons:
        if encoder in tried and count >= given.limits.floor:
            attempts = tried[encoder].succeeded + tried[encoder].failed
            rate = Estimate.model_validate(estimates.proportion(count, attempts))
            items.append(Failure(encoder=encoder or None, reason=reason or None, count=count, attempts=attempts, rate=rate))
    items.sort(key=lambda item: -item.rate.value)
    return answer(Failures(items=items), Failure, items, position, as_format)


@routes.get("/api/v2/insights/trend", response_model=Trend, responses={**AS_CSV, **documented(422)})
async def trend(
    given: Given,
    selection: Selected,
    by: Annotated[Literal["day", "version"], Query()] = "day",
    samples_min: SamplesMin = None,
    as_format: Format = "json",
) -> Response:
    """Show how the selected jobs went day by day (UTC), or version by version of the nodes' program."""
    label: Label = "day" if by == "day" else "app_version"
    async with given.open() as (reader, position):
        found = await reader.groups(selection, (label,), minimum(given, samples_min))
    points = await asyncio.to_thread(lambda: [Point(at=getattr(group, label), **outcomes(group)) for group in found])
    points.sort(key=lambda point: point.at)
    return answer(Trend(by=by, items=points), Point, points, position, as_format)


@routes.get("/api/v2/insights/comparison", response_model=Comparison, responses={**AS_CSV, **documented(404, 422)})
async def comparison(
    given: Given,
    selection: Selected,
    other: Annotated[Word, Query(min_length=1, max_length=128, description="The encoder to compare `encoder` with.")],
    encoder: Annotated[Word, Query(min_length=1, max_length=128)],
    as_format: Format = "json",
) -> Response:
    """Compare two encoders head to head, and say whether the difference is significant.

    Filter by hardware, codec, resolution, version and period to compare like with like.
    """
    async with given.open() as (reader, position):
        two = []
        for name in (encoder, other):
            found = await reader.groups(replace(selection, encoder=name), (), given.limits.floor)
            if not found:
                raise NotFound(f"of one of the encoders, fewer than {given.limits.floor} finished jobs were reported")
            two += found
    sides = [Side(encoder=name, **outcomes(group)) for name, group in zip((encoder, other), two, strict=True)]
    faster, rates = await asyncio.to_thread(lambda: (estimates.faster(*two), estimates.rate_difference(*two)))
    comparison = Comparison(
        encoders=sides,
        faster=Difference.model_validate(faster) if faster else None,
        success_rate=Difference.model_validate(rates) if rates else None,
    )
    lines = [Line(**side.model_dump(), faster=comparison.faster, rate_difference=comparison.success_rate) for side in sides]
    return answer(comparison, Line, lines, position, as_format)


def minimum(given: Readings, samples_min: int | None) -> int:
    """Return the minimum number of finished jobs of a visible group."""
    return max(given.limits.floor, given.limits.samples_min if samples_min is None else samples_min)


def known(group: Group, *labels: Label) -> dict[str, str | None]:
    """Return the group's labels; null where nodes did not say."""
    return {label: getattr(group, label) or None for label in labels}


def outcomes(group: Group) -> dict[str, Any]:
    """Return the fields of Outcomes."""
    rate, speed = estimates.success_rate(group), estimates.speed(group)
    return {
        "jobs": group.jobs,
        "started": group.started,
        "finished": group.finished,
        "succeeded": group.succeeded,
        "failed": group.failed,
        "success_rate": Estimate.model_validate(rate) if rate else None,
        "speed": Speed.model_validate(speed) if speed else None,
        "size_reduction_percent": estimates.reduction_percent(group),
    }


def answer(document: BaseModel, kind: type[BaseModel], items: Sequence[BaseModel], position: str, as_format: str) -> Response:
    """Return the whole as JSON, or its items, which are of this kind, as CSV."""
    headers = {"x-log-position": position, "cache-control": f"public, max-age={MAX_AGE_S}"}
    if as_format == "json":
        return Response(document.model_dump_json(by_alias=True), headers=headers, media_type="application/json")
    text = io.StringIO()
    named = sorted(columns(kind), key=lambda column: LABELS.index(column) if column in LABELS else len(LABELS))
    writer = csv.DictWriter(text, named, restval="")
    writer.writeheader()
    writer.writerows(dict(cells(item.model_dump())) for item in items)
    return Response(text.getvalue(), headers=headers, media_type=CSV)


def columns(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the columns of a model, including those of nested models: `speed_median`."""
    for name, field in kind.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            yield prefix + name
        else:
            yield from columns(inner, f"{prefix}{name}_")


def cells(item: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (column, value); no text can be a formula."""
    for name, value in item.items():
        if isinstance(value, dict):
            yield from cells(value, f"{prefix}{name}_")
        elif value is not None:
            yield prefix + name, f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value

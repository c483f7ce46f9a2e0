"""For administrators: how videos are made, and the state of the library, under the predecessor's paths and names."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from api.admin.analytics import DAYS_MAX
from api.admin.envelope import Answer, router
from api.admin.services import Given, moment, reading
from api.examples import JOB_ID, VIDEO_ID
from projections import library
from projections.library import Named, Transcode, resolution_of

routes = router("analytics")
RECENT = 30
LIBRARY = ("main", "Library")
"""Id and name of the one library."""


class TranscodeStats(BaseModel):
    """Sums of transcodes. `success_rate` and `hw_accel_percent` are 0 to 100."""

    total_transcodes: int = Field(examples=[120])
    success_count: int
    failure_count: int
    success_rate: float
    avg_duration_seconds: float
    hw_accel_percent: float
    codec_distribution: list[Named]


class TranscodeShown(BaseModel):
    """One transcode, the encode of a chunk. `hw_accel` is the encoder: `h264_nvenc` is a device's, `libx264` software."""

    id: str = Field(examples=[JOB_ID])
    media_item_id: str = Field(examples=[VIDEO_ID])
    media_title: str | None
    worker_id: str | None
    input_codec: str | None = Field(examples=["hevc"])
    output_codec: str | None
    input_resolution: str | None = Field(examples=["2160p"])
    output_resolution: str | None
    hw_accel: str | None
    quality: str = Field(description="The rungs that were made, with commas between.", examples=["1080p, 720p"])
    duration_seconds: int
    file_size_bytes: int
    success: bool
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime


class Transcodes(BaseModel):
    """Sums, and the last transcodes."""

    stats: TranscodeStats
    recent: list[TranscodeShown]


class Storage(BaseModel):
    """A library's sources."""

    library_id: str = Field(examples=["main"])
    library_name: str
    file_count: int
    total_bytes: int


class LibraryHealth(BaseModel):
    """The completeness of a library: `missing_metadata` videos have no description; `metadata_percent` is that of the others."""

    library_id: str = Field(examples=["main"])
    library_name: str
    total_items: int
    missing_metadata: int
    missing_poster: int
    metadata_percent: float
    codec_distribution: list[Named]
    resolution_distribution: list[Named]
    hdr_count: int
    atmos_count: int


@routes.get("/analytics/transcodes")
async def transcodes(
    given: Given, response: Response, days: Annotated[int, Query(ge=1, le=DAYS_MAX, description="Days up to now.")] = 30
) -> Answer[Transcodes]:
    """Show sums of transcodes, and the last 30."""
    async with reading(given, response, "jobs") as connection:
        since = await moment(given, connection, "jobs") - timedelta(days=days)
        sums, made = await library.transcode_sums(connection, since)
        recent = await library.transcodes(connection, since, RECENT)
    stats = TranscodeStats(
        total_transcodes=sums.total,
        success_count=sums.succeeded,
        failure_count=sums.total - sums.succeeded,
        success_rate=_percent(sums.succeeded, sums.total),
        avg_duration_seconds=round(sums.mean_s, 1),
        hw_accel_percent=_percent(sums.by_hardware, sums.total),
        codec_distribution=list(made),
    )
    return Answer(data=Transcodes(stats=stats, recent=[_shown(one) for one in recent]))


@routes.get("/analytics/storage")
async def storage(given: Given, response: Response) -> Answer[list[Storage]]:
    """Show the number and bytes of the sources, by library."""
    async with reading(given, response, "catalog") as connection:
        found = await library.health(connection)
    id_, name = LIBRARY
    return Answer(data=[Storage(library_id=id_, library_name=name, file_count=found.items, total_bytes=found.size_bytes)])


@routes.get("/analytics/library-health")
async def library_health(given: Given, response: Response) -> Answer[list[LibraryHealth]]:
    """Show how complete a library is, and what it consists of."""
    async with reading(given, response, "catalog") as connection:
        found = await library.health(connection)
        codecs, resolutions = await library.codecs(connection), await library.resolutions(connection)
    id_, name = LIBRARY
    shown = LibraryHealth(
        library_id=id_,
        library_name=name,
        total_items=found.items,
        missing_metadata=found.without_description,
        missing_poster=found.without_picture,
        metadata_percent=_percent(found.items - found.without_description, found.items),
        codec_distribution=list(codecs),
        resolution_distribution=list(resolutions),
        hdr_count=found.hdr,
        atmos_count=found.atmos,
    )
    return Answer(data=[shown])


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _shown(one: Transcode) -> TranscodeShown:
    sides = [side for side in (one.input_width, one.input_height) if side is not None]
    return TranscodeShown(
        id=one.job_id,
        media_item_id=one.video_id,
        media_title=one.title,
        worker_id=one.worker_id,
        input_codec=one.input_codec,
        output_codec=one.output_codec,
        input_resolution=resolution_of(min(sides)) if sides else None,
        output_resolution=one.renditions[0] if one.renditions else None,
        hw_accel=one.encoder,
        quality=", ".join(one.renditions),
        duration_seconds=0 if one.claimed_at is None else round((one.ended_at - one.claimed_at).total_seconds()),
        file_size_bytes=one.size_bytes,
        success=one.success,
        error_message=one.error,
        started_at=one.claimed_at,
        completed_at=one.ended_at,
    )

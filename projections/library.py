"""Figures of the library and of how it was made, over the rows of `catalog` and `jobs`.

A transcode is the encode of one chunk of a video; it counts when it has succeeded, or failed for good.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from pydantic import BaseModel, TypeAdapter

from events.media import SOFTWARE_ENCODERS
from projections.folding.queries import load

NAMES_MAX = 10
"""Names in a distribution, the most frequent first."""
STEPS = (2160, 1440, 1080, 720, 480)
"""Lines of the resolutions that have a name."""
_SQL = load(Path(__file__).with_name("library.sql"))


class Named(BaseModel):
    """A number of things of one name."""

    name: str
    count: int


class Transcode(BaseModel):
    """One transcode; sizes are pixels, as shown. `size_bytes` are those that it made. `encoder` is ffmpeg's name."""

    job_id: str
    video_id: str
    title: str | None
    renditions: tuple[str, ...]
    worker_id: str | None
    claimed_at: datetime | None
    ended_at: datetime
    input_codec: str | None
    input_width: int | None
    input_height: int | None
    output_codec: str | None
    encoder: str | None
    size_bytes: int
    success: bool
    error: str | None


class TranscodeSums(BaseModel):
    """Sums of transcodes; `mean_s` seconds passed between claim and end."""

    total: int
    succeeded: int
    by_hardware: int
    mean_s: float


class Health(BaseModel):
    """The videos whose sources are there: their number, bytes, and properties. Sound alone needs no picture."""

    items: int
    size_bytes: int
    without_description: int
    without_picture: int
    hdr: int
    atmos: int


_TRANSCODES = TypeAdapter(list[Transcode])
_NAMED = TypeAdapter(list[Named])
_SIZES = TypeAdapter(list[tuple[int, int]])


def resolution_of(lines: int) -> str:
    """Return the name of a resolution by the lines of its shorter side: 1080p from 1080 to 1439; below 480 each has its own."""
    return f"{next((step for step in STEPS if lines >= step), lines)}p"


async def transcodes(connection: AsyncConnection[Any], since: datetime, limit: int) -> Sequence[Transcode]:
    """Return the transcodes that ended since a moment, the latest first."""
    return _TRANSCODES.validate_json(await _text(connection, "transcodes", since=since, limit=limit))


async def transcode_sums(connection: AsyncConnection[Any], since: datetime) -> tuple[TranscodeSums, Sequence[Named]]:
    """Return the sums of the transcodes that ended since a moment, and the codecs that they made."""
    software = list(SOFTWARE_ENCODERS.values())
    sums = TranscodeSums.model_validate_json(await _text(connection, "transcode_sums", since=since, software=software))
    return sums, _NAMED.validate_json(await _text(connection, "transcode_codecs", since=since, names=NAMES_MAX))


async def health(connection: AsyncConnection[Any]) -> Health:
    """Return the sums of the library."""
    return Health.model_validate_json(await _text(connection, "health"))


async def codecs(connection: AsyncConnection[Any]) -> Sequence[Named]:
    """Return the codecs of the sources: of the pictures, else of the sound."""
    return _NAMED.validate_json(await _text(connection, "codecs", names=NAMES_MAX))


async def resolutions(connection: AsyncConnection[Any]) -> Sequence[Named]:
    """Return the resolutions of the sources that have pictures."""
    found = Counter[str]()
    for lines, count in _SIZES.validate_json(await _text(connection, "sizes")):
        found[resolution_of(lines)] += count
    return [Named(name=name, count=count) for name, count in found.most_common(NAMES_MAX)]


async def _text(connection: AsyncConnection[Any], name: str, **values: object) -> str:
    cursor = await connection.execute(_SQL[name], values)
    found = await cursor.fetchone()
    assert found is not None
    return str(found[0])

"""Routes for bytes: sources out, files in. Files are stored under the prefix of their claim, and only while it is held."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from api import ranges
from api.limits import allowing
from api.problems import documented
from api.worker import guards, models
from api.worker.decisions import Holding
from api.worker.leases import renewals
from api.worker.receiving import ARCHIVE_BYTES_MAX, FILE_BYTES_MAX, receive, temporary_file, unpack
from api.worker.services import Given, Services, Worker
from events.errors import Conflict, InvalidRequest, NotFound
from events.kinds import KINDS, JobResult, foreign
from events.media import ObjectRef, Rendition
from events.objects import attempt_prefix, objects_in, source_key, video_prefix
from events.text import Line

routes = APIRouter(prefix="/api/worker", tags=["transfers"], responses=documented(401, 403, 404, 409))
JobId = Annotated[str, Path(max_length=36, pattern=r"^[0-9a-f-]{36}$")]
Epoch = Annotated[int, Query(ge=1, le=2**31, description="The epoch of the claim.")]
Digest = Annotated[
    str | None, Header(alias="X-Content-SHA256", pattern=r"^[0-9a-fA-F]{64}$", description="The SHA-256 of the bytes.")
]
Wanted = Annotated[str | None, Header(alias="Range")]
Same = Annotated[str | None, Header(alias="If-Range")]
PRIVATE = {"Cache-Control": "private, no-store"}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "All of it."},
    206: {"content": {"application/octet-stream": {}}, "description": "The range that was asked for."},
    **documented(416),
}
MADE = r"^[0-9a-f-]{36}/[0-9]{1,10}/[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
MISSING_NAMED_MAX = 20


def prefix_of(holding: Holding, epoch: int) -> str:
    """Return the prefix of a claim's files."""
    return attempt_prefix(holding.video_id, holding.job_id, epoch)


# --- out ------------------------------------------------------------------------------------------------------------


@routes.get("/source/{job_id}", response_class=Response, responses=BYTES)
async def source(
    request: Request, given: Given, key: Worker, job_id: JobId, epoch: Epoch, wanted: Wanted = None, same: Same = None
) -> Response:
    """The video's source. Ranges are answered, so that an interrupted download can go on."""
    holding = await given.decisions.held(job_id, key.worker_id, epoch)
    where = source_key(holding.video_id)
    return await ranges.answer(given.store, where, request.method, wanted=wanted, same=same, headers=PRIVATE)


@routes.get("/object/{job_id}/{path:path}", response_class=Response, responses=BYTES)
async def made_object(
    request: Request,
    given: Given,
    key: Worker,
    job_id: JobId,
    path: Annotated[str, Path(max_length=500, pattern=MADE)],
    epoch: Epoch,
    wanted: Wanted = None,
    same: Same = None,
) -> Response:
    """An object that any job has made of the same video, for the job that verifies it: JOB/EPOCH/720p/00000.m4s."""
    holding = await given.decisions.held(job_id, key.worker_id, epoch)
    where = video_prefix(holding.video_id) + path
    return await ranges.answer(given.store, where, request.method, wanted=wanted, same=same, headers=PRIVATE)


# --- in -------------------------------------------------------------------------------------------------------------


@routes.post("/upload/{job_id}/segment/{quality}/{filename}", responses=documented(413, 422))
@allowing(file=True)
async def upload_segment(
    request: Request,
    given: Given,
    key: Worker,
    job_id: JobId,
    quality: Annotated[Line, Path(max_length=300)],
    filename: Annotated[Line, Path(max_length=300)],
    epoch: Epoch,
    sha256: Digest = None,
) -> models.FileAnswer:
    """Store a segment of a rendition. The same bytes again are fine; other bytes under the same name are refused."""
    return await _upload(request, given, key.worker_id, job_id, epoch, f"{quality}/{filename}", sha256)


@routes.post("/upload/{job_id}/file/{filename}", responses=documented(413, 422))
@allowing(file=True)
async def upload_file(
    request: Request,
    given: Given,
    key: Worker,
    job_id: JobId,
    filename: Annotated[Line, Path(max_length=300)],
    epoch: Epoch,
    sha256: Digest = None,
) -> models.FileAnswer:
    """Store a file that belongs to no rendition: thumbnail, subtitles, result.json."""
    return await _upload(request, given, key.worker_id, job_id, epoch, filename, sha256)


async def _upload(
    request: Request, given: Services, worker_id: str, job_id: str, epoch: int, path: str, sha256: str | None
) -> models.FileAnswer:
    name = guards.checked_path(path)
    holding = await given.decisions.held(job_id, worker_id, epoch)
    with temporary_file(given.options.directory) as spool:
        received = await receive(request, spool, FILE_BYTES_MAX)
        if sha256 is not None and sha256.lower() != received.sha256:
            raise InvalidRequest(f"the bytes that came have another SHA-256: {received.sha256}")
        guards.check_magic(name, received.head)
        holding = await given.decisions.held(job_id, worker_id, epoch)  # a long upload may outlive its claim
        content_type = guards.content_type(name, request.headers.get("content-type"))
        written = await given.shelf.put(prefix_of(holding, epoch) + name, received, content_type)
    if events := renewals(given, given.context(holding.video_id), holding):
        await given.append(events)
    return models.FileAnswer(
        written=written, bytes_written=received.size_bytes if written else 0, checksum_verified=sha256 is not None
    )


@routes.post("/upload/{job_id}/archive", responses=documented(413, 422))
@allowing(file=True)
async def upload_archive(
    request: Request, given: Given, key: Worker, job_id: JobId, epoch: Epoch, sha256: Digest = None
) -> models.ArchiveAnswer:
    """Store all files of a tar.gz: 720p/00000.m4s, thumbnail.jpg … The first forbidden file ends it."""
    holding = await given.decisions.held(job_id, key.worker_id, epoch)
    files = written = size_bytes = 0
    with temporary_file(given.options.directory) as spool:
        received = await receive(request, spool, ARCHIVE_BYTES_MAX)
        if sha256 is not None and sha256.lower() != received.sha256:
            raise InvalidRequest(f"the bytes that came have another SHA-256: {received.sha256}")
        async with given.unpacking:
            unpacking = unpack(spool, given.options.directory)
            try:
                while (found := await asyncio.to_thread(next, unpacking, None)) is not None:
                    name, file = found
                    holding = await given.decisions.held(job_id, key.worker_id, epoch)
                    where = prefix_of(holding, epoch) + name
                    fresh = await given.shelf.put(where, file, guards.content_type(name, None))
                    files, written, size_bytes = files + 1, written + fresh, size_bytes + file.size_bytes * fresh
            finally:
                await asyncio.to_thread(unpacking.close)
    return models.ArchiveAnswer(files=files, written=written, bytes_written=size_bytes)


@routes.get("/upload/{job_id}/segments/status", responses=documented(422))
async def received_segments(
    given: Given,
    key: Worker,
    job_id: JobId,
    epoch: Epoch,
    quality: Annotated[str, Query(max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")],
) -> models.Segments:
    """List the stored files of a rendition."""
    holding = await given.decisions.held(job_id, key.worker_id, epoch)
    prefix = f"{prefix_of(holding, epoch)}{quality}/"
    found = await given.store.under(prefix)
    return models.Segments(
        quality=quality,
        received_segments=[stat.key.removeprefix(prefix) for stat in found],
        total_size_bytes=sum(stat.size_bytes for stat in found),
    )


@routes.post("/upload/{job_id}/segment/finalize", responses=documented(422))
async def finalize(given: Given, key: Worker, job_id: JobId, said: models.Finalize) -> models.Finalized:
    """Report which segments there should be; the answer names the missing ones."""
    holding = await given.decisions.held(job_id, key.worker_id, said.epoch)
    guards.checked_path(f"{said.quality}/0{said.extension}")
    prefix = f"{prefix_of(holding, said.epoch)}{said.quality}/"
    there = {stat.key.removeprefix(prefix) for stat in await given.store.under(prefix)}
    numbers = range(said.first_segment, said.first_segment + said.segment_count)
    missing = [name for number in numbers if (name := f"{number:05d}{said.extension}") not in there]
    return models.Finalized(status="incomplete" if missing else "ok", complete=not missing, missing_segments=missing)


@routes.get("/{job_id}/verify-complete")
async def verify_complete(given: Given, key: Worker, job_id: JobId, epoch: Epoch) -> models.Verified:
    """Show the state of the claim, and its files in the store, before the worker deletes its own."""
    holding = await given.decisions.holding(job_id)
    if holding.worker_id != key.worker_id:
        raise NotFound(f"there is no claim of yours on job {job_id}")
    prefix = prefix_of(holding, epoch)
    names = [stat.key.removeprefix(prefix) for stat in await given.store.under(prefix)]
    qualities = sorted({name.partition("/")[0] for name in names if "/" in name})
    missing = ["result.json"] if KINDS[holding.kind].keeps_objects and "result.json" not in names else []
    return models.Verified(
        all_files_present=not missing,
        job_status=holding.status,
        epoch=holding.epoch,
        qualities_present=qualities,
        missing_files=missing,
    )


# --- objects that a result names ------------------------------------------------------------------------------------


async def check_result(given: Services, holding: Holding, result: JobResult) -> None:
    """Raise InvalidRequest when a result does not belong to its claim, Conflict when an object that it names is missing.

    Digests were checked when the bytes arrived; the verification, a job of its own, reads them all again.
    """
    if not isinstance(result, KINDS[holding.kind].result):
        raise InvalidRequest(f"a job of kind {holding.kind} has another result, not one of kind {result.kind}")
    await _check_objects(given, holding, list(objects_in(result)))


async def check_part(given: Services, holding: Holding, renditions: tuple[Rendition, ...]) -> None:
    """Raise InvalidRequest and Conflict as `check_result` does, for a part of a result."""
    if not KINDS[holding.kind].in_parts:
        raise InvalidRequest(f"a job of kind {holding.kind} has a result in one part")
    await _check_objects(given, holding, list(objects_in(renditions)))


async def _check_objects(given: Services, holding: Holding, named: Sequence[ObjectRef]) -> None:
    prefix = prefix_of(holding, holding.epoch)
    if beyond := foreign(KINDS[holding.kind], named, video_id=holding.video_id, attempt=prefix):
        raise InvalidRequest(f"the result names an object that is not this claim's: {beyond[0][:200]}")
    if not KINDS[holding.kind].keeps_objects:
        return
    there = {stat.key: stat.size_bytes for stat in await given.store.under(prefix)}
    if missing := [ref.key.removeprefix(prefix) for ref in named if there.get(ref.key) != ref.size_bytes]:
        more = f" and {len(missing) - MISSING_NAMED_MAX} more" if len(missing) > MISSING_NAMED_MAX else ""
        raise Conflict(f"not in the store, or of another size: {', '.join(missing[:MISSING_NAMED_MAX])}{more}")

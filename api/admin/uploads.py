"""Uploads: through presigned addresses, in one piece or in resumable parts; or as a form, streamed through.

Each is a multipart upload of the store, a small file's too: the addresses of its parts end with it, so nothing that was sent
can be replaced once the upload is completed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError

from api.admin.contents import become, video_of
from api.admin.forms import Form
from api.admin.services import Given, Services, write
from api.limits import allowing
from api.problems import ContentKnown, documented
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import Conflict, InvalidRequest, KinologError, NotFound, ObjectMissing, Retryable
from events.faults import sentence
from events.objects import source_key
from events.text import Line, Prose
from events.topics import VIDEOS, partition_for
from events.videos import UploadStarted, VideoUploaded, Visibility
from producers import uploads as producer
from projections import catalog
from projections.catalog import Video
from projections.folding.positions import Positions, wait_for

routes = APIRouter(tags=["uploads"])
VideoId = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]
PARTS_MAX = 10_000
JOIN_S = 600.0
"""Seconds for the answer to a completed upload: stores join parts at about 1 GB/s."""
SEEN_S = 5.0
"""Maximum delay of the catalog on a busy machine: the wait for the row of an upload that this app has just begun."""
EXAMPLE_ID = "01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"
SOURCE_TYPE = "application/octet-stream"
Priority = Literal["high", "normal", "low"]
Force = Annotated[bool, Query(description="Take content that is there already.")]


class NewUpload(BaseModel):
    """A file to upload. With `sha256`, known content is recognised before a byte is sent."""

    filename: Line = Field(min_length=1, max_length=1024, examples=["holiday.mp4"])
    size_bytes: int = Field(ge=1, examples=[1_048_576])
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", examples=["5a" * 32])


class BegunUpload(BaseModel):
    """The target of the file: PUT all of it to `url`, or ask for addresses of parts of `part_bytes` each."""

    video_id: str = Field(examples=[EXAMPLE_ID])
    url: str | None = Field(examples=["http://localhost:9010/kinolog/sources/01926f9c-…/original?partNumber=1&…"])
    part_bytes: int | None = Field(examples=[None])


class WantedParts(BaseModel):
    """Numbers of parts, from 1."""

    numbers: list[int] = Field(min_length=1, max_length=1000, examples=[[1, 2, 3]])


class PartAddresses(BaseModel):
    """The address to PUT each part to, by its number."""

    urls: dict[int, str] = Field(examples=[{"1": "http://localhost:9010/kinolog/sources/01926f9c-…/original?partNumber=1&…"}])


class SentPart(BaseModel):
    """A part that the store has taken, and the ETag that the store answered with."""

    number: int = Field(ge=1, le=PARTS_MAX, examples=[1])
    etag: Line = Field(min_length=1, max_length=200, examples=["9e107d9d372bb6826bd81d3542a419d6"])


class StoredPart(SentPart):
    """A part that the store has."""

    size_bytes: int = Field(examples=[16_777_216])


class OpenUpload(BaseModel):
    """An upload that can go on: send the missing parts."""

    video_id: str = Field(examples=[EXAMPLE_ID])
    part_bytes: int | None = Field(examples=[16_777_216])
    parts: list[StoredPart]


class Completion(BaseModel):
    """The whole file was sent. `parts` in any order; with None, the store's own list counts."""

    title: Line | None = Field(None, min_length=1, max_length=255, examples=["Holiday"])
    description: Prose = Field("", max_length=5000, examples=["A week at the sea"])
    priority: Priority = "normal"
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", examples=["5a" * 32])
    origin: Literal["api", "form", "cli"] = "api"
    visibility: Visibility | None = Field(None, description="Without it, the setting `upload_visibility`.", examples=["public"])
    parts: list[SentPart] | None = Field(None, max_length=PARTS_MAX)


class FormDetails(BaseModel):
    """The small fields of a form."""

    title: Line | None = Field(None, min_length=1, max_length=255)
    description: Prose = Field("", max_length=5000)
    priority: Priority = "normal"
    visibility: Visibility | None = None


class CompletedUpload(BaseModel):
    """The video that the upload becomes."""

    video_id: str = Field(examples=[EXAMPLE_ID])
    slug: str = Field(examples=["holiday-hfagkw8m"])
    status: str = Field(examples=["processing"])


@routes.post("/api/uploads", status_code=201, responses=documented(409, 413, 422))
@allowing(kind="uploads")
async def begin(
    given: Given,
    response: Response,
    upload: NewUpload,
    force: Force = False,
) -> BegunUpload:
    """Begin an upload. 409 names the video when its content is there already."""
    if upload.size_bytes > given.options.upload_max_bytes:
        raise InvalidRequest(f"the file has {upload.size_bytes} bytes; at most {given.options.upload_max_bytes} are taken")
    if upload.sha256 and not force and (known := await video_of(given, upload.sha256)):
        raise ContentKnown(known.video_id, known.slug)
    whole = upload.size_bytes <= given.options.upload_part_bytes
    part_bytes = None if whole else _part_bytes(upload.size_bytes, given.options.upload_part_bytes)
    context = given.context()
    video_id = context.new_id()
    key = source_key(video_id)
    multipart_id = await given.store.create_multipart(key, SOURCE_TYPE)
    started = producer.started(
        context,
        video_id=video_id,
        filename=upload.filename,
        size_bytes=upload.size_bytes,
        multipart_id=multipart_id,
        part_bytes=part_bytes,
        sha256=upload.sha256,
        force=force,
    )
    async with _multipart_of(given, started):
        await write(given, response, [started])
    url = await given.store.presign_part(key, multipart_id, 1, given.options.presign_ttl_s) if whole else None
    return BegunUpload(video_id=video_id, url=url, part_bytes=part_bytes)


@routes.get("/api/uploads/{video_id}", responses=documented(404, 409))
async def show(given: Given, video_id: VideoId) -> OpenUpload:
    """Show which parts the store has, to resume an upload."""
    video = await _upload(given, video_id)
    if video.status != "uploading":
        raise Conflict(f"this upload is not open any more: the video is {video.status}")
    parts = await given.store.list_parts(video.object_key, video.multipart_id) if video.multipart_id else []
    stored = [StoredPart(number=number, etag=etag, size_bytes=size) for number, etag, size in parts]
    return OpenUpload(video_id=video_id, part_bytes=video.part_bytes, parts=stored)


@routes.post("/api/uploads/{video_id}/parts", responses=documented(404, 409, 413, 422))
@allowing(kind="uploads")
async def sign_parts(given: Given, video_id: VideoId, wanted: WantedParts) -> PartAddresses:
    """Return addresses to PUT parts to."""
    video = await _upload(given, video_id)
    if video.multipart_id is None or video.part_bytes is None or video.status != "uploading":
        raise Conflict("this upload does not take parts (any more)")
    last = -(-(video.size_bytes or 0) // video.part_bytes)
    if any(not 1 <= number <= last for number in wanted.numbers):
        raise InvalidRequest(f"parts of this upload are numbered from 1 to {last}")
    key, multipart_id, life = video.object_key, video.multipart_id, given.options.presign_ttl_s
    return PartAddresses(urls={n: await given.store.presign_part(key, multipart_id, n, life) for n in wanted.numbers})


@routes.post("/api/uploads/{video_id}/complete", responses=documented(404, 409, 413, 422))
@allowing(answer_s=JOIN_S, kind="uploads")
async def complete(given: Given, response: Response, video_id: VideoId, completion: Completion) -> CompletedUpload:
    """Join the parts, check the size, and begin to make the video. A repeated call gets the same answer.

    If another video has, or gets, the same content, the answer is that video, and nothing of this upload is kept.
    """
    video = await _upload(given, video_id)
    if video.same_as is not None:
        video = await _upload(given, video.same_as)
    if video.status in ("abandoned", "purged"):
        raise Conflict("this upload was given up; begin a new one")
    if video.status != "uploading":
        return CompletedUpload(video_id=video.video_id, slug=video.slug, status=video.status)
    if completion.sha256 and video.sha256 and completion.sha256 != video.sha256:
        raise InvalidRequest("this upload was begun with another SHA-256; begin a new one")
    async with given.locks.of(video_id):  # a repeated call meanwhile finds the parts joined
        stat = await _stored(given, video, completion.parts)
    if video.size_bytes is not None and stat.size_bytes != video.size_bytes:
        raise Conflict(f"the store has {stat.size_bytes} bytes; {video.size_bytes} were announced. Send the file again")
    upload = VideoUploaded(
        video_id=video_id,
        title=completion.title or producer.title_of(video.filename),
        description=completion.description,
        filename=video.filename,
        object_key=video.object_key,
        size_bytes=stat.size_bytes,
        sha256=completion.sha256 or video.sha256,
        etag=stat.etag,
        origin=completion.origin,
        priority=completion.priority,
        visibility=completion.visibility or given.options.upload_visibility,
    )
    made = await become(given, response, upload, force=video.force)
    if made.video_id != video_id:
        known = producer.abandoned(given.context(), video_id=video_id, reason="known", same_as=made.video_id)
        await write(given, response, [known])
    return CompletedUpload(video_id=made.video_id, slug=made.slug, status=made.status)


@routes.delete("/api/uploads/{video_id}", status_code=204, responses=documented(404, 409))
@allowing(kind="uploads")
async def cancel(given: Given, response: Response, video_id: VideoId) -> None:
    """Give an upload up; its parts are deleted a moment later, unless it was completed first."""
    video = await _upload(given, video_id)
    if video.status != "uploading":
        raise Conflict(f"this upload is not open any more: the video is {video.status}")
    await write(given, response, [producer.abandoned(given.context(), video_id=video_id, reason="cancelled")])


async def _stored(given: Services, video: Video, parts: list[SentPart] | None) -> Any:
    """Return the store's entry of the whole file; join its parts unless that is done. Raises Conflict."""
    try:
        return await given.store.stat(video.object_key)
    except ObjectMissing as error:
        if video.multipart_id is None:
            raise Conflict("the store has no file for this upload yet; send it first") from error
    try:
        await _join(given, video, video.multipart_id, parts)
        return await given.store.stat(video.object_key)
    except ObjectMissing as error:
        raise Conflict(str(error)) from error


async def _join(given: Services, video: Video, multipart_id: str, parts: list[SentPart] | None) -> None:
    there = await given.store.list_parts(video.object_key, multipart_id)
    sent = [(number, etag) for number, etag, _ in there] if parts is None else [(p.number, p.etag) for p in parts]
    if len({number for number, _ in sent}) != len(sent):
        raise InvalidRequest("name every part once, with the ETag that the store answered")
    if not there:
        raise Conflict("the store has no file for this upload yet; send it first")
    total = sum(size for number, _, size in there if number in {number for number, _ in sent})
    if video.size_bytes is not None and total != video.size_bytes:
        raise Conflict(f"the parts have {total} bytes together; {video.size_bytes} were announced. Send the missing parts")
    await given.store.complete_multipart(video.object_key, multipart_id, sent)


async def _upload(given: Services, video_id: str) -> Video:
    """Return the upload's row. If it is missing, look again once the catalog has read this app's writes.

    Raises NotFound, or Retryable when the catalog does not get so far in time.
    """
    async with given.pool.connection() as connection:
        video = await catalog.by_id(connection, video_id)
    if video is None:
        partition = (VIDEOS.name, partition_for(video_id, VIDEOS.partitions))
        mine = Positions({partition: given.written[partition]} if partition in given.written else {})
        if not await wait_for(given.pool, "catalog", mine, SEEN_S):
            raise Retryable("the catalog has not read the newest uploads yet; try again")
        async with given.pool.connection() as connection:
            video = await catalog.by_id(connection, video_id)
    if video is None:
        raise NotFound(f"there is no upload {video_id}")
    return video


@contextlib.asynccontextmanager
async def _multipart_of(given: Services, started: Envelope[Event]) -> AsyncIterator[None]:
    """Delete the multipart upload from the store when the upload could not be put on the log: nothing else knows of it."""
    try:
        yield
    except BaseException:
        upload = started.data
        assert isinstance(upload, UploadStarted)
        if upload.multipart_id:
            with contextlib.suppress(KinologError):
                await asyncio.shield(given.store.abort_multipart(upload.object_key, upload.multipart_id))
        raise


def _part_bytes(size_bytes: int, configured: int) -> int:
    """Return the size of parts that makes at most 10,000 of them (S3's limit)."""
    return max(configured, -(-size_bytes // PARTS_MAX))


# --- forms ----------------------------------------------------------------------------------------------------------

FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "title": {"type": "string", "maxLength": 255},
        "description": {"type": "string", "maxLength": 5000},
        "priority": {"type": "string", "enum": ["high", "normal", "low"]},
        "visibility": {"type": "string", "enum": ["public", "unlisted", "private"]},
    },
}


@routes.post(
    "/api/videos",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": FORM, "example": {"file": "(the bytes of holiday.mp4)", "title": "Holiday"}}
            },
        }
    },
    responses=documented(408, 409, 413, 422),
)
@allowing(file=True, kind="uploads")
async def upload_form(
    given: Given,
    response: Response,
    request: Request,
    content_type: Annotated[str, Header(include_in_schema=False)] = "",
    content_length: Annotated[int, Header(include_in_schema=False)] = 0,
    force: Force = False,
) -> CompletedUpload:
    """Take a form with a `file` and, before or after it, `title`, `description`, `priority`, `visibility`.

    It is streamed through in parts. 409 names the video when its content is there already.
    """
    form = Form(content_type)
    sending = _Sending(given, given.context(), _part_bytes(content_length, given.options.upload_part_bytes))
    try:
        async for piece in request.stream():
            form.feed(piece)
            await sending.take(form)
        form.finish()
        details = _details(form)
        if not force and (known := await video_of(given, form.sha256)):
            raise ContentKnown(known.video_id, known.slug)
        made = await _made_of(given, response, sending, form, details, force=force)
        if made.video_id != sending.video_id:
            raise ContentKnown(made.video_id, made.slug)
    except BaseException as error:
        same_as = error.members["video_id"] if isinstance(error, ContentKnown) else None
        await asyncio.shield(sending.give_up(same_as))
        raise
    return CompletedUpload(video_id=made.video_id, slug=made.slug, status=made.status)


async def _made_of(
    given: Services, response: Response, sending: "_Sending", form: Form, details: FormDetails, *, force: bool
) -> Video:
    """Return the video of a form's file, or the video of the same content."""
    stat = await sending.finish(form)
    upload = VideoUploaded(
        video_id=sending.video_id,
        title=details.title or producer.title_of(form.filename or ""),
        description=details.description,
        filename=form.filename or "",
        object_key=source_key(sending.video_id),
        size_bytes=form.size_bytes,
        sha256=form.sha256,
        etag=stat.etag,
        origin="form",
        priority=details.priority,
        visibility=details.visibility or given.options.upload_visibility,
    )
    return await become(given, response, upload, force=force)


def _details(form: Form) -> FormDetails:
    """Return the form's small fields. Raises InvalidRequest."""
    try:
        return FormDetails.model_validate({name: value for name, value in form.fields.items() if value})
    except ValidationError as error:
        raise InvalidRequest(sentence(error.errors()[0])) from error


class _Sending:
    """Sends a form's file on in parts as it arrives; memory holds one part. The upload is on the log from its first byte on."""

    def __init__(self, given: Services, context: Context, part_bytes: int) -> None:
        self.video_id = context.new_id()
        self._given = given
        self.context = context
        self._part_bytes = part_bytes
        self._key = source_key(self.video_id)
        self._multipart_id: str | None = None
        self._parts: list[tuple[int, str]] = []

    async def take(self, form: Form) -> None:
        """Send complete parts."""
        if form.size_bytes > self._given.options.upload_max_bytes:
            raise InvalidRequest(f"the file is larger than {self._given.options.upload_max_bytes} bytes")
        if form.filename is not None and self._multipart_id is None:
            _details(form)  # fields before the file are checked before anything is done
            await self._begin(form.filename)
        while len(form.pending) >= self._part_bytes:
            await self._send(form, self._part_bytes)

    async def finish(self, form: Form) -> Any:
        """Send the rest and join the parts; return the store's entry of the whole file."""
        assert self._multipart_id is not None
        if form.pending:
            await self._send(form, len(form.pending))
        await self._given.store.complete_multipart(self._key, self._multipart_id, self._parts)
        return await self._given.store.stat(self._key)

    async def give_up(self, same_as: str | None) -> None:
        """Record that the upload is given up, so that its parts are deleted; when that fails, the sweeper does it later.

        An upload that is not on the log is not given up. If the log has the completion, although nobody acknowledged it,
        giving up has no effect.
        """
        if self._multipart_id is None:
            return
        reason: Literal["known", "cancelled"] = "known" if same_as else "cancelled"
        with contextlib.suppress(Retryable):
            await self._given.append([producer.abandoned(self.context, video_id=self.video_id, reason=reason, same_as=same_as)])

    async def _begin(self, filename: str) -> None:
        multipart_id = await self._given.store.create_multipart(self._key, SOURCE_TYPE)
        started = producer.started(
            self.context,
            video_id=self.video_id,
            filename=filename,
            size_bytes=None,
            multipart_id=multipart_id,
            part_bytes=self._part_bytes,
        )
        async with _multipart_of(self._given, started):
            await self._given.append([started])
        self._multipart_id = multipart_id

    async def _send(self, form: Form, size_bytes: int) -> None:
        assert self._multipart_id is not None
        data = bytes(memoryview(form.pending)[:size_bytes])
        del form.pending[:size_bytes]
        number = len(self._parts) + 1
        self._parts.append((number, await self._given.store.upload_part(self._key, self._multipart_id, number, data)))

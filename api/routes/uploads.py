"""Uploads: through presigned addresses, in one piece or in parts that can be resumed; or as a form, streamed through."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field
from python_multipart.multipart import MultipartParser, parse_options_header

from api.deps import Given, Services, write
from events.errors import Conflict, InvalidRequest, NotFound, ObjectMissing
from producers import uploads as producer
from projections import catalog
from projections.catalog import Video, slug_for

routes = APIRouter(tags=["uploads"])
VideoId = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]
PARTS_MAX = 10_000
SEEN_S = 2.0
SOURCE_TYPE = "application/octet-stream"
FormPriority = Literal["high", "normal", "low"]


class NewUpload(BaseModel):
    """A file that somebody wants to send. `sha256` lets known content be told before a byte is sent."""

    filename: str = Field(min_length=1, max_length=1024, examples=["holiday.mp4"])
    size_bytes: int = Field(ge=1, examples=[1_048_576])
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class BegunUpload(BaseModel):
    """Where to send it: PUT the whole file to `url`, or ask for addresses of parts of `part_bytes` each."""

    video_id: str
    url: str | None
    part_bytes: int | None


class WantedParts(BaseModel):
    """Numbers of parts, from 1."""

    numbers: list[int] = Field(min_length=1, max_length=1000)


class SentPart(BaseModel):
    """A part that the store has taken, and the ETag that it answered."""

    number: int = Field(ge=1, le=PARTS_MAX)
    etag: str = Field(max_length=200)


class Completion(BaseModel):
    """The whole file was sent. `parts` in any order; None lets the store's own list count."""

    title: str | None = Field(None, min_length=1, max_length=255)
    description: str = Field("", max_length=5000)
    priority: FormPriority = "normal"
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    origin: Literal["api", "form", "cli"] = "api"
    parts: list[SentPart] | None = None


class CompletedUpload(BaseModel):
    """The video that becomes of it."""

    video_id: str
    slug: str
    status: str


@routes.post("/api/uploads", status_code=201)
async def begin(
    given: Given,
    response: Response,
    upload: NewUpload,
    force: Annotated[bool, Query(description="Take content that is there already.")] = False,
) -> BegunUpload:
    """Begin an upload. 409 names the video when its content is there already."""
    if upload.size_bytes > given.options.upload_max_bytes:
        raise InvalidRequest(f"the file has {upload.size_bytes} bytes; at most {given.options.upload_max_bytes} are taken")
    if upload.sha256 and not force:
        async with given.pool.connection() as connection:
            known = await catalog.same_content(connection, upload.sha256)
        if known:
            raise Conflict(f"this content is there already: video {known.video_id}, {known.slug}")
    context = given.context()
    video_id = context.new_id()
    key = producer.source_key(video_id)
    part_bytes = _part_bytes(upload.size_bytes, given.options.upload_part_bytes)
    multipart_id = await given.store.create_multipart(key, SOURCE_TYPE) if part_bytes else None
    started = producer.started(
        context,
        video_id=video_id,
        filename=upload.filename,
        size_bytes=upload.size_bytes,
        multipart_id=multipart_id,
        part_bytes=part_bytes,
    )
    await write(given, response, [started])
    url = None if multipart_id else await given.store.presign_put(key, given.options.presign_ttl_s)
    return BegunUpload(video_id=video_id, url=url, part_bytes=part_bytes)


@routes.get("/api/uploads/{video_id}")
async def show(given: Given, video_id: VideoId) -> dict[str, Any]:
    """Tell which parts the store has: an upload can go on from there."""
    video = await _upload(given, video_id)
    if video.status != "uploading":
        raise Conflict(f"this upload is not open any more: the video is {video.status}")
    parts = await given.store.list_parts(video.object_key, video.multipart_id) if video.multipart_id else []
    return {
        "video_id": video_id,
        "part_bytes": video.part_bytes,
        "parts": [{"number": number, "etag": etag, "size_bytes": size} for number, etag, size in parts],
    }


@routes.post("/api/uploads/{video_id}/parts")
async def sign_parts(given: Given, video_id: VideoId, wanted: WantedParts) -> dict[str, dict[int, str]]:
    """Return addresses to PUT parts to."""
    video = await _upload(given, video_id)
    if video.multipart_id is None or video.part_bytes is None or video.status != "uploading":
        raise Conflict("this upload does not take parts (any more)")
    last = -(-(video.size_bytes or 0) // video.part_bytes)
    if any(not 1 <= number <= last for number in wanted.numbers):
        raise InvalidRequest(f"parts of this upload are numbered from 1 to {last}")
    key, multipart_id, life = video.object_key, video.multipart_id, given.options.presign_ttl_s
    return {"urls": {n: await given.store.presign_part(key, multipart_id, n, life) for n in wanted.numbers}}


@routes.post("/api/uploads/{video_id}/complete")
async def complete(given: Given, response: Response, video_id: VideoId, completion: Completion) -> CompletedUpload:
    """Join the parts, check the size, and begin to make the video. Saying it again answers the same."""
    video = await _upload(given, video_id)
    if video.status in ("abandoned", "purged"):
        raise Conflict("this upload was given up; begin a new one")
    if video.status != "uploading":
        return CompletedUpload(video_id=video_id, slug=video.slug, status=video.status)
    stat = await _stored(given, video, completion.parts)
    if video.size_bytes is not None and stat.size_bytes != video.size_bytes:
        raise Conflict(f"the store has {stat.size_bytes} bytes; {video.size_bytes} were announced. Send the file again")
    title = completion.title or video.filename[:255]
    done = producer.uploaded(
        given.context(),
        video_id=video_id,
        title=title,
        description=completion.description,
        filename=video.filename,
        size_bytes=stat.size_bytes,
        sha256=completion.sha256,
        origin=completion.origin,
        priority=completion.priority,
    )
    await write(given, response, [done])
    return CompletedUpload(video_id=video_id, slug=slug_for(title, video_id), status="processing")


@routes.delete("/api/uploads/{video_id}", status_code=204)
async def cancel(given: Given, response: Response, video_id: VideoId) -> None:
    """Give an upload up; what was sent is deleted."""
    video = await _upload(given, video_id)
    if video.status != "uploading":
        raise Conflict(f"this upload is not open any more: the video is {video.status}")
    if video.multipart_id:
        await given.store.abort_multipart(video.object_key, video.multipart_id)
    await given.store.delete([video.object_key])
    await write(given, response, [producer.abandoned(given.context(), video_id=video_id, reason="cancelled")])


async def _stored(given: Services, video: Video, parts: list[SentPart] | None) -> Any:
    """Return the store's words on the whole file; join its parts when that was not done before. Raises Conflict."""
    try:
        return await given.store.stat(video.object_key)
    except ObjectMissing as error:
        if video.multipart_id is None:
            raise Conflict("the store has no file for this upload yet; send it first") from error
    try:
        await _join(given, video, video.multipart_id, parts)
        return await given.store.stat(video.object_key)
    except (Conflict, ObjectMissing) as error:
        if (stat := await _joined_meanwhile(given, video)) is not None:
            return stat
        raise Conflict(str(error)) from error


async def _joined_meanwhile(given: Services, video: Video) -> Any | None:
    """Return the whole file when another request is just joining its parts: then they look as if they were not there."""
    for _ in range(10):
        with contextlib.suppress(ObjectMissing):
            return await given.store.stat(video.object_key)
        await asyncio.sleep(0.1)
    return None


async def _join(given: Services, video: Video, multipart_id: str, parts: list[SentPart] | None) -> None:
    there = await given.store.list_parts(video.object_key, multipart_id)
    sent = [(number, etag) for number, etag, _ in there] if parts is None else [(p.number, p.etag) for p in parts]
    if len({number for number, _ in sent}) != len(sent):
        raise InvalidRequest("name every part once, with the ETag that the store answered")
    total = sum(size for number, _, size in there if number in {number for number, _ in sent})
    if video.size_bytes is not None and total != video.size_bytes:
        raise Conflict(f"the parts have {total} bytes together; {video.size_bytes} were announced. Send what is missing")
    await given.store.complete_multipart(video.object_key, multipart_id, sent)


async def _upload(given: Services, video_id: str) -> Video:
    """Return the upload's row; a fresh one may take a moment to be read from the log. Raises NotFound."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SEEN_S
    while True:
        async with given.pool.connection() as connection:
            video = await catalog.by_id(connection, video_id)
        if video is not None:
            return video
        if loop.time() > deadline:
            raise NotFound(f"there is no upload {video_id}")
        await asyncio.sleep(0.02)


def _part_bytes(size_bytes: int, configured: int) -> int | None:
    """Return the part size, None for one piece; at most 10,000 parts (S3's limit)."""
    if size_bytes <= configured:
        return None
    return max(configured, -(-size_bytes // PARTS_MAX))


# --- forms ----------------------------------------------------------------------------------------------------------


@routes.post("/api/videos", status_code=201, openapi_extra={"requestBody": {"content": {"multipart/form-data": {}}}})
async def upload_form(
    given: Given, response: Response, request: Request, content_type: Annotated[str, Header()] = ""
) -> CompletedUpload:
    """Take a form with a `file` and, before it, `title`, `description`, `priority`; streamed through in parts."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidRequest("send multipart/form-data with a field `file`")
    context = given.context()
    video_id = context.new_id()
    form = _Form(options[b"boundary"])
    key = producer.source_key(video_id)
    multipart_id = await given.store.create_multipart(key, SOURCE_TYPE)
    try:
        parts = await _stream_parts(given, form, request.stream(), key, multipart_id)
        if not form.filename or not form.size_bytes:
            raise InvalidRequest("the form has no `file`, or an empty one")
        await given.store.complete_multipart(key, multipart_id, parts)
    except BaseException:
        await given.store.abort_multipart(key, multipart_id)
        raise
    title = (form.fields.get("title") or form.filename)[:255]
    started = producer.started(
        context, video_id=video_id, filename=form.filename, size_bytes=form.size_bytes, multipart_id=None, part_bytes=None
    )
    done = producer.uploaded(
        context,
        video_id=video_id,
        title=title,
        description=form.fields.get("description", "")[:5000],
        filename=form.filename,
        size_bytes=form.size_bytes,
        sha256=None,
        origin="form",
        priority=form.priority,
    )
    await write(given, response, [started, done])
    return CompletedUpload(video_id=video_id, slug=slug_for(title, video_id), status="processing")


async def _stream_parts(
    given: Services, form: "_Form", body: AsyncIterator[bytes], key: str, multipart_id: str
) -> list[tuple[int, str]]:
    """Send the file's bytes on as they come, a part at a time; memory holds one part."""
    parts: list[tuple[int, str]] = []
    part_bytes = given.options.upload_part_bytes
    async for piece in body:
        form.feed(piece)
        if form.size_bytes > given.options.upload_max_bytes:
            raise InvalidRequest(f"the file is larger than {given.options.upload_max_bytes} bytes")
        while len(form.pending) >= part_bytes:
            data = bytes(form.pending[:part_bytes])
            del form.pending[:part_bytes]
            parts.append((len(parts) + 1, await given.store.upload_part(key, multipart_id, len(parts) + 1, data)))
    if form.pending or not parts:
        parts.append((len(parts) + 1, await given.store.upload_part(key, multipart_id, len(parts) + 1, bytes(form.pending))))
    return parts


class _Form:
    """Parses a form as it comes: small fields are kept, the file's bytes go to `pending`."""

    FIELD_MAX = 20_000

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.size_bytes = 0
        self.pending = bytearray()
        self._name = ""
        self._in_file = False
        self._header = bytearray()
        self._value = bytearray()
        self._field = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    @property
    def priority(self) -> FormPriority:
        """The priority that was asked for; anything unknown is normal."""
        match self.fields.get("priority"):
            case "high":
                return "high"
            case "low":
                return "low"
            case _:
                return "normal"

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._parser.write(data)

    def _begin(self) -> None:
        self._name, self._in_file = "", False
        self._field.clear()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode(errors="replace")
            if self._name == "file" and b"filename" in options:
                self._in_file = True
                self.filename = options[b"filename"].decode(errors="replace")[:1024]
        self._header.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.pending += data[start:end]
            self.size_bytes += end - start
        elif len(self._field) < self.FIELD_MAX:
            self._field += data[start:end]

    def _end(self) -> None:
        if self._name and not self._in_file:
            self.fields[self._name] = self._field.decode(errors="replace")

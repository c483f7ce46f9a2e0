"""Errors as problem documents (RFC 9457): `application/problem+json` with a title, a status and advice."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from psycopg import DataError, OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from events.errors import (
    Concealed,
    Conflict,
    EventTooLarge,
    InvalidEvent,
    InvalidRequest,
    KinologError,
    NotFound,
    ObjectMissing,
    Retryable,
    Unproven,
)
from events.faults import place_of, pointer_of, sentence

TYPE = "application/problem+json"
RETRY_AFTER_S = 2
UNREADABLE = "There was an error parsing the body"
"""FastAPI's own words about a body that has no characters; other malformed bodies are 422."""
CHALLENGE = {"WWW-Authenticate": "Bearer"}
AWAY = (OperationalError, PoolTimeout, TooManyRequests)
"""The database does not answer."""
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Unproven, HTTPStatus.UNAUTHORIZED),
    (EventTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (InvalidEvent, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (ObjectMissing, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (Retryable, HTTPStatus.SERVICE_UNAVAILABLE),
)
_EXAMPLES: dict[int, str] = {
    400: "JSON is malformed: trailing characters (byte 38)",
    401: "send `Authorization: Bearer TOKEN` with the administrator's token",
    403: "this needs the right to add videos; ask an administrator",
    404: "there is no video big-buck-bunny-hfagkw8m",
    405: "events are sent with POST",
    408: "nothing of the body came for 60 s",
    409: "only a failed video can be retried; this one is ready",
    413: "the body is longer than 1048576 bytes",
    415: "send one JSON object as application/json, without an encoding",
    416: "the range begins after the end",
    422: "the size must be at least 1",
    429: "too many requests from this address; wait a moment",
    501: "oEmbed is answered as JSON only: leave `format` out, or say json",
    503: "the log did not acknowledge: KafkaTimeoutError",
}


class ContentKnown(Conflict):
    """This content is there already."""

    def __init__(self, video_id: str, slug: str) -> None:
        super().__init__(f"this content is there already: video {video_id}, {slug}; say ?force=true to take it again")
        self.members = {"video_id": video_id, "slug": slug}


class Fenced(Conflict):
    """The worker does not hold the job; worker programs act on `state`."""

    def __init__(self, state: str, detail: str, *, status: int = 409) -> None:
        super().__init__(detail)
        self.status = status
        self.members = {"state": state}


class Fault(BaseModel):
    """One fault of a request. `where` and `pointer` are for programs: the pointer leads into the body."""

    where: str = Field(examples=["body.size_bytes"])
    pointer: str | None = Field(None, examples=["#/size_bytes"])
    what: str = Field(examples=["the size must be at least 1"])


class Problem(BaseModel):
    """A problem document. `errors` is set for 422; `video_id` and `slug` for 409 when the content is known.

    `state` is set when a worker does not hold its job: fenced, cancelled or not_yours.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    video_id: str | None = None
    slug: str | None = None
    state: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of these answers."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        title = HTTPStatus(status).phrase
        example = {"type": "about:blank", "title": title, "status": status, "detail": _EXAMPLES[status]}
        schema = {"$ref": "#/components/schemas/Problem"}
        found[status] = {"description": title, "content": {TYPE: {"schema": schema, "example": example}}}
        if status in (429, 503):
            found[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return found


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: object) -> JSONResponse:
    """Return a problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(jsonable_encoder(body), status, headers=headers, media_type=TYPE)


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    where = place_of(fault)
    said = Fault(where=".".join(map(str, where)), pointer=pointer_of(where), what=sentence(fault))
    return said.model_dump(exclude_none=True)


def install(app: FastAPI) -> None:
    """Answer every fault with a problem document."""

    async def expected(request: Request, error: Exception) -> Response:
        if isinstance(error, Unproven | Concealed):
            request.state.refusal = error.reason
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        status = HTTPStatus(getattr(error, "status", status))
        more = {HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER_S)}, HTTPStatus.UNAUTHORIZED: CHALLENGE}
        return problem(status, str(error), headers=more.get(status), **getattr(error, "members", {}))

    async def away(_request: Request, _error: Exception) -> Response:
        detail = "the database does not answer; try again in a moment"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})

    async def unspeakable(_request: Request, error: Exception) -> Response:
        if type(error) is not DataError:  # PostgreSQL raises a subclass; psycopg itself refuses NUL in a text with this class
            raise error
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request has a value that no video, job or worker can have")

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [_fault(fault) for fault in error.errors()]
        detail = faults[0]["what"] if faults else "the request is invalid"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=faults)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if (reason := getattr(error, "reason", None)) is not None:
            request.state.refusal = reason
        headers = dict(error.headers or {})
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:  # the router's own words
            allowed = sorted(headers.get("Allow", "").split(", "))  # the router joins a set: its order is random
            headers |= {"Allow": ", ".join(allowed)} if "Allow" in headers else {}
            own = {404: "there is nothing at this address", 405: f"this address takes {' or '.join(allowed)}"}
            detail = own.get(error.status_code) or detail
        if detail == UNREADABLE:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the body is not text in UTF-8, or nested too deeply")
        return problem(error.status_code, detail, headers=headers)

    async def bug(_request: Request, _error: Exception) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong with Kinolog; its log says more")

    app.add_exception_handler(KinologError, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(DataError, unspeakable)
    for kind in AWAY:
        app.add_exception_handler(kind, away)
    app.add_exception_handler(Exception, bug)

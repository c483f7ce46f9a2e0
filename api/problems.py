"""Errors as problem documents (RFC 9457): `application/problem+json` with a title, a status and what to do."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from psycopg import OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests
from starlette.exceptions import HTTPException

from events.errors import Conflict, InvalidEvent, InvalidRequest, KinologError, NotFound, ObjectMissing, Retryable

TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidEvent, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (ObjectMissing, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (Retryable, HTTPStatus.SERVICE_UNAVAILABLE),
)


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: object) -> JSONResponse:
    """Return a problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(jsonable_encoder(body), status, headers=headers, media_type=TYPE)


def install(app: FastAPI) -> None:
    """Answer every expected fault with a problem document."""

    async def expected(_request: Request, error: Exception) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        retry = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return problem(status, str(error), headers=retry)

    async def away(_request: Request, _error: Exception) -> Response:
        detail = "the database does not answer; try again in a moment"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [{"where": ".".join(map(str, fault["loc"])), "what": fault["msg"]} for fault in error.errors()]
        first = faults[0] if faults else {"where": "request", "what": "is invalid"}
        detail = f"{first['where']}: {first['what']}"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=faults)

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, error.detail, headers=dict(error.headers or {}))

    app.add_exception_handler(KinologError, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    for kind in (OperationalError, PoolTimeout, TooManyRequests):
        app.add_exception_handler(kind, away)

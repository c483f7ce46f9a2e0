"""The predecessor's envelope under /api/v1: `{success, data}` around answers, `{success, error}` around refusals."""

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

D = TypeVar("D")
Handler = Callable[[Request, Exception], Awaitable[Response]]


class Answer(BaseModel, Generic[D]):
    """The envelope of an answer."""

    success: bool = Field(True, examples=[True])
    data: D


class Refusal(BaseModel):
    """The envelope of a refusal; `error` is a sentence for a person."""

    success: bool = Field(False, examples=[False])
    error: str = Field(examples=["the number must be at most 500"])


class Enveloped(APIRoute):
    """A route whose refusals are in the envelope. Bad values are 400, as the predecessor's clients know it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                handler = _handler_of(request.app.exception_handlers, error)
                if handler is None:
                    raise
                return _enveloped(await handler(request, error))

        return answer


def router(tag: str) -> APIRouter:
    """Return a router for paths under /api/v1."""
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": Refusal} for status in (400, 401, 403, 404, 503)}
    return APIRouter(prefix="/api/v1", tags=[tag], route_class=Enveloped, responses=refusals)


def _handler_of(handlers: Mapping[Any, Handler], error: Exception) -> Handler | None:
    """Return the app's handler of an expected fault; None for a bug."""
    return next((handlers[kind] for kind in type(error).__mro__ if kind is not Exception and kind in handlers), None)


def _enveloped(answer: Response) -> Response:
    """Return a problem document as a refusal."""
    status = HTTPStatus.BAD_REQUEST if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY else answer.status_code
    headers = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return JSONResponse(Refusal(error=json.loads(bytes(answer.body))["detail"]).model_dump(), status, headers)

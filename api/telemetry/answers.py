"""Answers kept for a moment: popular answers are cached; rare ones are computed.

An answer of the insights' version 2 sums up all reports in a selection. A limit on concurrent computations goes with it,
whatever the number of requests.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

FRESH_S, STALE_S = 1.0, 10.0
"""Up to the first age, an answer is served as it is; up to the second, too, while the next one is computed."""
ANSWERS_MAX = 500
BYTES_MAX = 32 * 2**20
AT_ONCE_MAX = 2
"""Maximum number of answers computed at once; the others wait."""

Make = Callable[[], Awaitable[Response]]


class Kept:
    """An answer, and the time of its last request."""

    def __init__(self, response: Response, asked_s: float) -> None:
        self.asked_s = asked_s
        self._body = bytes(response.body)
        self._headers = tuple(response.raw_headers)

    def __len__(self) -> int:
        return len(self._body)

    def response(self) -> Response:
        """Return a copy, because middleware adds headers to it."""
        response = Response(self._body)
        response.raw_headers = list(self._headers)
        return response


class Answers:
    """Keeps the most recently requested answers with status 200 under their keys; `now` returns monotonic seconds."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Task[Response]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)

    async def get(self, key: str, make: Make) -> Response:
        """Return the kept answer if it is young enough, else a new one. Raises the errors of `make`."""
        kept = self._kept.get(key)
        age_s = self._now() - kept.asked_s if kept else STALE_S
        if kept is None or age_s >= FRESH_S:
            making = self._making.get(key) or self._begin(key, make)
            if kept is None or age_s >= STALE_S:
                await asyncio.shield(making)
                return Kept(making.result(), 0.0).response()
        self._kept.move_to_end(key)
        return kept.response()

    def _begin(self, key: str, make: Make) -> asyncio.Task[Response]:
        """Compute an answer in a task of its own, which goes on when the client that asked hangs up."""
        task = self._making[key] = asyncio.create_task(self._make(key, make))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # there may be no waiter left
        return task

    async def _make(self, key: str, make: Make) -> Response:
        try:
            async with self._at_once:
                asked_s = self._now()
                response = await make()
            if response.status_code == 200:
                self._keep(key, Kept(response, asked_s))
            return response
        finally:
            del self._making[key]

    def _keep(self, key: str, answer: Kept) -> None:
        if (before := self._kept.pop(key, None)) is not None:
            self._bytes -= len(before)
        self._kept[key] = answer
        self._bytes += len(answer)
        while self._bytes > BYTES_MAX or len(self._kept) > ANSWERS_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)


class KeptRoute(APIRoute):
    """A route whose answers depend on path and query alone; they are kept in `app.state.answers`."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler that looks for a kept answer first."""
        handler = super().get_route_handler()

        async def look(request: Request) -> Response:
            answers: Answers = request.app.state.services.answers
            key = f"{request.url.path}?{request.url.query}"
            return await answers.get(key, lambda: handler(request))

        return look

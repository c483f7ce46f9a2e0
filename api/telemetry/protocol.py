"""The server's HTTP protocol, with a short path for `POST /v1/event` and for reading the insights.

uvicorn makes a task, two events and some messages for each request, which costs more than all the work of ingest. A complete
small event needs none of it: it goes to the log with its last byte, and the answer is written when the log has it. The
insights are bytes made in advance. Everything else, and every refusal, takes the usual path through the app.
"""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

from starlette.responses import Response

from api.connections import BODY, Connection
from api.telemetry.ingest import ACCEPTED, EVENT, EVENT_BYTES_MAX, EventRoute, Ingest, answer_insights, bug
from api.telemetry.insights import INSIGHTS, Prepared

_INSIGHTS = INSIGHTS.encode()
_BODY = {b"content-length", b"transfer-encoding"}
"""Headers of a request that has a body."""
EVENT_S = 10.0
"""Maximum time for the whole body of one event."""


def protocol_for(ingest: Ingest) -> type[Connection]:
    """Return the class to give to `api.app.server_config`."""
    return type("IngestProtocol", (_IngestProtocol,), {"ingest": ingest, "event": EventRoute(ingest)})


class _IngestProtocol(Connection):
    ingest: Ingest
    event: EventRoute
    _awaited: Any = None
    """The request whose body is awaited here."""
    _was_read = False
    """Insights were sent as the answer to the request whose end is parsed next."""

    def patience_s(self) -> float:
        """Return the maximum wait in seconds; only the wait for single events is limited here and not by the app."""
        return EVENT_S if self.wanted == BODY and self.cycle.scope["path"] == EVENT else super().patience_s()

    def begin_request(self) -> None:
        """Begin the request; a read of the insights is answered before a request object exists."""
        if self.url == _INSIGHTS and self._is_plain_read():
            self._read()
        else:
            super().begin_request()

    def _is_plain_read(self) -> bool:
        """Return whether this is a GET without a body on an otherwise idle connection."""
        free = self.cycle is None or self.cycle.response_complete
        parser = self.parser
        if not free or self.flow.write_paused or parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
            return False
        return bool(parser.should_keep_alive()) and _BODY.isdisjoint([name for name, _ in self.headers])

    def _read(self) -> None:
        """Answer with the insights, without the objects that uvicorn makes per request."""
        began = perf_counter()
        scope: Any = self.scope
        scope["method"] = "GET"
        response = answer_insights(self.ingest, scope)
        if isinstance(response, Prepared):
            self._was_read = True
            self.ingest.observe(INSIGHTS, response.status_code, perf_counter() - began)
            self._write(response, b"\r\n")
            self.on_response_complete()
        else:
            usual: Any = response
            app, self.app = self.app, usual
            try:
                super().begin_request()
            finally:
                self.app = app

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if app is self.app and self._is_short(cycle):
            self._awaited = cycle
            if not cycle.more_body:
                self._take(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Take an event whose body is complete."""
        if self._was_read:
            self._was_read = False
            return
        super().on_message_complete()
        if self._awaited is not None and self._awaited is self.cycle:
            self._take(self.cycle)

    def _is_short(self, cycle: Any) -> bool:
        """Return whether this is one event whose announced length is within the limit."""
        scope = cycle.scope
        if scope["path"] != EVENT or scope["method"] != "POST" or cycle.waiting_for_100_continue:
            return False
        for name, value in scope["headers"]:
            if name == b"content-length":
                return int(value) <= EVENT_BYTES_MAX
        return False

    def _take(self, cycle: Any) -> None:
        """Put the event on the log."""
        self._awaited = None
        began = perf_counter()
        try:
            if (refusal := self.event.refuse(cycle.scope)) is not None:
                self._answer(cycle, refusal, began)
                return
            begun = self.event.begin(bytes(cycle.body))
        except Exception as error:  # noqa: BLE001
            self._answer(cycle, bug(error), began)
            return
        if isinstance(begun, Response):
            self._answer(cycle, begun, began)
        else:
            outcome, event_id = begun
            outcome.add_done_callback(partial(self._settle, cycle, event_id, began))

    def _settle(self, cycle: Any, event_id: str | None, began: float, outcome: "asyncio.Future[Any]") -> None:
        """Answer with the outcome on the log."""
        try:
            response = self.event.end(outcome, event_id) or ACCEPTED
        except Exception as error:  # noqa: BLE001
            response = bug(error)
        self._answer(cycle, response, began)

    def _answer(self, cycle: Any, response: Response, began: float) -> None:
        """Write the answer: a prepared one directly, any other in a task."""
        self.ingest.observe(EVENT, response.status_code, perf_counter() - began)
        if cycle.disconnected or self.transport.is_closing():
            return
        if not isinstance(response, Prepared) or self.flow.write_paused:
            usual: Any = response
            super()._start_asgi_task(cycle, usual)
            return
        cycle.response_started = cycle.response_complete = True
        self._write(response, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _write(self, response: Prepared, ends: bytes) -> None:
        """Write a prepared answer, with the server's own headers; `ends` are the last ones."""
        own = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join((response.status_line, *own, response.fields, ends, response.body)))

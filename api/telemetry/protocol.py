"""The server's HTTP protocol, with a short way for `POST /v1/event`.

uvicorn makes a task, two events and some messages for each request, which costs more than all that ingest does. A whole
small event needs none of it: when its last byte is here it goes to the log, and when the log has it the answer is
written. Everything else, and every refusal, takes the usual way through the app.
"""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.telemetry.ingest import ACCEPTED, EVENT, EVENT_BYTES_MAX, EventRoute, Observe, bug

HEAD_BYTES_MAX = 512 * 1024
"""More than this and no end of a head: the connection is closed. One read may bring 256 KiB, some of it a body."""
_STATUS_LINE = b"HTTP/1.1 202 Accepted\r\n"
_HEADERS = b"".join(name + b": " + value + b"\r\n" for name, value in ACCEPTED.raw_headers)


def protocol_for(event: EventRoute, observe: Observe) -> type[HttpToolsProtocol]:
    """Return the class to give uvicorn as `http`."""
    return type("IngestProtocol", (_IngestProtocol,), {"event": event, "observe": staticmethod(observe)})


class _IngestProtocol(HttpToolsProtocol):
    event: EventRoute
    observe: Observe
    _awaited: Any = None
    """The request whose body is awaited here."""
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head without end is not kept."""
        if self.cycle is None or self.cycle.response_complete:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._head_bytes = 0
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if app is self.app and self._is_short(cycle):
            self._awaited = cycle
            if not cycle.more_body:
                self._take(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Take an event whose body is complete."""
        super().on_message_complete()
        if self._awaited is not None and self._awaited is self.cycle:
            self._take(self.cycle)

    def _is_short(self, cycle: Any) -> bool:
        """Tell whether this is one event whose announced length is within the limit."""
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
        """Answer: the log has the event, or not."""
        try:
            response = self.event.end(outcome, event_id)
        except Exception as error:  # noqa: BLE001
            response = bug(error)
        self._answer(cycle, response, began)

    def _answer(self, cycle: Any, response: Response | None, began: float) -> None:
        """Write the answer: 202 from here, any other by way of a task."""
        self.observe(EVENT, 202 if response is None else response.status_code, perf_counter() - began)
        if cycle.disconnected or self.transport.is_closing():
            return
        if response is not None or self.flow.write_paused:
            usual: Any = response or ACCEPTED
            super()._start_asgi_task(cycle, usual)
            return
        date = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
        cycle.response_started = cycle.response_complete = True
        if cycle.keep_alive:
            self.transport.write(_STATUS_LINE + date + _HEADERS + b"\r\n")
        else:
            self.transport.write(_STATUS_LINE + date + _HEADERS + b"connection: close\r\n\r\n")
            self.transport.close()
        self.on_response_complete()

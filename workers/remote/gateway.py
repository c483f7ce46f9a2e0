"""Calls of the worker app: retried with jitter while that can help, behind a circuit breaker, with an error per cause.

    closed --5 faults in a row--> open --5 s--> half open --success--> closed
                                    ^---------------fault---'

Faults are broken connections and answers that mean "later" (429, 502, 503, 504). A call whose answer means "no" is not retried.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import stamina

from events.errors import Conflict, KinologError, LogUnavailable

FAULTS_MAX = 5
OPEN_S = 5.0
WAIT_INITIAL_S = 0.2
WAIT_MAX_S = 5.0
CALLS_S = 45.0
"""Maximum time over which a call is retried: shorter than a lease, longer than a restart of the gateway."""
LATER = (429, 502, 503, 504)


class Later(KinologError):
    """The worker app cannot answer now."""


class LeftAlone(KinologError):
    """The worker app did not answer several times in a row; it is not asked for some seconds."""


PASSING = (Later, LeftAlone, httpx.TransportError)
"""Faults after which a call is retried."""


class Rejected(Conflict):
    """The worker app refused the request; trying again does not help."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class NotAdmitted(KinologError):
    """The worker app does not take this worker's key."""


class Lost(KinologError):
    """The worker does not hold the job: it was cancelled, or somebody else has it."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state = state


class Breaker:
    """The circuit breaker, whose states are drawn above."""

    def __init__(self) -> None:
        self._faults = 0
        self._open = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count the outcome of an attempt; an answer that means "no" counts as a success. Raises LeftAlone while open."""
        if self._open:
            raise LeftAlone
        try:
            yield
        except (Later, httpx.TransportError):
            self._faults += 1
            if self._faults >= FAULTS_MAX and not self._open:
                self._open = True
                asyncio.get_running_loop().call_later(OPEN_S, self._half_open)
            raise
        except (Lost, NotAdmitted, Rejected):
            self._faults = 0
            raise
        self._faults = 0

    def _half_open(self) -> None:
        """Let attempts through again; the next fault opens the breaker at once."""
        self._open = False


class Gateway:
    """Client of the worker app for one worker. `http` has the app's address and the worker's key."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._breaker = Breaker()

    async def call(
        self, method: str, path: str, body: Mapping[str, Any], *, answer_s: float = 30.0, tried_s: float = CALLS_S
    ) -> Any:
        """Return the JSON answer. The call is retried for `tried_s`, never when that is 0.

        Raises LogUnavailable when no retry helped, Lost, NotAdmitted, Rejected.
        """
        try:
            async for attempt in stamina.retry_context(
                on=PASSING,
                attempts=None if tried_s else 1,
                timeout=tried_s or None,
                wait_initial=WAIT_INITIAL_S,
                wait_max=WAIT_MAX_S,
            ):
                with attempt:
                    async with self.answer(method, path, json=body, timeout=_limits(answer_s)) as answer:
                        await answer.aread()
                        return answer.json()
        except PASSING as error:
            raise LogUnavailable(f"the worker app does not answer: {type(error).__name__}") from error
        raise AssertionError("the retries either return or raise")

    @asynccontextmanager
    async def answer(self, method: str, path: str, **options: Any) -> AsyncGenerator[httpx.Response, None]:
        """Yield one successful answer with its body unread.

        Raises Later, LeftAlone, httpx.TransportError, which may pass; Lost, NotAdmitted, Rejected, which do not.
        """
        with self._breaker.watch():
            async with self._http.stream(method, path, **options) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _fault(answer)
                yield answer


def _limits(answer_s: float) -> httpx.Timeout:
    return httpx.Timeout(10.0, read=answer_s, pool=answer_s)


def _fault(answer: httpx.Response) -> KinologError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = str(problem.get("detail") or f"the worker app answered {answer.status_code}")
    if answer.status_code in LATER:
        return Later(detail)
    if answer.status_code == 401:
        return NotAdmitted(detail)
    if (state := problem.get("state")) is not None or answer.status_code == 404:
        return Lost(str(state or "unknown"), detail)
    return Rejected(answer.status_code, detail)

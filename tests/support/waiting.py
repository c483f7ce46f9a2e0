"""Waiting for a condition: the one way in which tests wait for what comes by itself."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

PATIENCE_S = 100.0
"""A busy machine may stand still for some seconds, several times."""
PAUSE_S_MAX = 0.25
WORDS_MAX = 3000


@overload
async def eventually(
    ask: Callable[[], Awaitable[T]], holds: Callable[[T], object] = ..., *, timeout_s: float = ..., despite: Any = ...
) -> T: ...
@overload
async def eventually(
    ask: Callable[[], T], holds: Callable[[T], object] = ..., *, timeout_s: float = ..., despite: Any = ...
) -> T: ...
async def eventually(
    ask: Callable[[], Any],
    holds: Callable[[Any], object] = bool,
    *,
    timeout_s: float = PATIENCE_S,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
) -> Any:
    """Ask until an answer holds; return that answer. Pauses grow with the time waited, so a short wait ends at once.

    `despite` names exceptions of `ask` that count as an answer that does not hold. Raises AssertionError after `timeout_s`, with
    the condition and the last answer.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    last: Any = "none"
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            while True:
                try:
                    answer = ask()
                    last = await answer if inspect.isawaitable(answer) else answer
                    if holds(last):
                        return last
                except despite as error:
                    last = error
                await asyncio.sleep(min(PAUSE_S_MAX, (loop.time() - began) / 20))
    except TimeoutError as error:
        if not deadline.expired():
            raise
        condition = _source(ask) if holds is bool else f"{_source(ask)}\nto hold by\n{_source(holds)}"
        raise AssertionError(f"waited for {timeout_s:.0f} s for\n{condition}\nlast: {last!r:.{WORDS_MAX}}") from error


def _source(function: Callable[..., Any]) -> str:
    """Return a function's source, or its name where it has none."""
    try:
        return inspect.getsource(function).strip()
    except (OSError, TypeError):
        return repr(function)

"""The caller of a request: every event that an app writes meanwhile names it.

An app's `authorised` dependency calls `called_by`; `signing` stands before the app's appender. Background work has no caller:
its events name the app.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from events.actors import signed
from events.envelope import Envelope, Event

Append = Callable[[Sequence[Envelope[Event]]], Awaitable[Sequence[Any]]]


class Caller(NamedTuple):
    """An actor (`events.actors`), and the keyed hash of its address where the app keeps one."""

    actor: str
    client: str | None = None


NOBODY = ""
"""The actor of a request whose caller is not known yet, as at a login."""
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def called_by(actor: str, client: str | None = None) -> None:
    """Note the caller of the request in progress."""
    _caller.set(Caller(actor, client))


def proven_by(actor: str) -> None:
    """Note who the caller of the request in progress has turned out to be."""
    before = _caller.get()
    _caller.set(Caller(actor, before.client if before else None))


def calling_from(client: str | None) -> None:
    """Note the keyed hash of the address that the request in progress came from."""
    before = _caller.get()
    _caller.set(Caller(before.actor if before else NOBODY, client))


def signing(append: Append, app: str) -> Append:
    """Return an appender that signs events with the caller of the request; without one, with the app (`system:admin`)."""
    itself = Caller(f"system:{app}")

    async def appended(envelopes: Sequence[Envelope[Event]]) -> Sequence[Any]:
        caller = _caller.get() or itself
        return await append(signed(envelopes, caller.actor or itself.actor, caller.client))

    return appended

"""A worker inside the cluster that stops while it waits for a job: nobody gives it one any more."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from events.codec import encode
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.jobs import ClaimRefused, ClaimRequested, ClaimWithdrawn, JobClaimed, LeaseReleased
from infra.runtime.clock import new_id, system_context
from tests.support.pools import ANY, SPEC
from workers.transport import LogTransport

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POOL = "default"


class Log:
    """The log, and a dispatcher that gives a job to nobody, or to the worker that is leaving already."""

    def __init__(self, *, gives: bool = False) -> None:
        self.gives = gives
        self.requests: list[Envelope[Event]] = []
        self.asked = asyncio.Event()
        self.transport = LogTransport(
            "w",
            POOL,
            process_id="p",
            append=self.append,
            open_consumer=None,  # type: ignore[arg-type]
            context=lambda _: system_context("test"),
        )

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        self.requests += envelopes
        for request in envelopes:
            if isinstance(request.data, ClaimRequested):
                self.asked.set()
            elif isinstance(request.data, ClaimWithdrawn):
                await self.transport._see(Envelope("f", "test", POOL, NOON, self.answer(request.data.claim_id), "c"))

    def answer(self, claim_id: str) -> ClaimRefused | JobClaimed:
        if not self.gives:
            return ClaimRefused(worker_id="w", pool=POOL, claim_id=claim_id, reason="no_job")
        of: dict[str, Any] = {"job_id": "j", "video_id": "v", "pool": POOL, "worker_id": "w", "epoch": 1, "attempt": 1}
        return JobClaimed(**of, claim_id=claim_id, lease_expires_at=NOON, spec=SPEC)

    async def leave(self) -> list[str]:
        """Claim, and leave before the answer; return the kinds of all requests."""
        claim = asyncio.create_task(self.transport.claim(ANY, 30))
        await self.asked.wait()
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
        await self.transport.stop()
        assert self.transport._claims == {}
        return [type(request.data).__name__ for request in self.requests]


async def test_its_request_is_withdrawn() -> None:
    log = Log()
    assert await log.leave() == ["ClaimRequested", "ClaimWithdrawn"]
    withdrawn = log.requests[1].data
    assert isinstance(withdrawn, ClaimWithdrawn) and withdrawn.claim_id == log.requests[0].id


async def test_a_job_that_it_was_given_meanwhile_is_handed_back() -> None:
    log = Log(gives=True)
    assert await log.leave() == ["ClaimRequested", "ClaimWithdrawn", "LeaseReleased"]
    released = log.requests[2].data
    assert isinstance(released, LeaseReleased) and (released.job_id, released.epoch) == ("j", 1)


async def test_it_leaves_though_the_log_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()

    async def append(envelopes: Sequence[Envelope[Event]]) -> None:
        if isinstance(envelopes[0].data, ClaimWithdrawn):
            raise LogUnavailable("away")
        await Log.append(log, envelopes)

    monkeypatch.setattr(log.transport, "_append", append)
    assert await log.leave() == ["ClaimRequested"]


async def test_a_fact_at_which_the_reader_fails_stops_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    log, seen = Log(), asyncio.Event()

    class Tail:
        """A consumer that brings two facts, then nothing."""

        def __init__(self) -> None:
            self.facts = [
                ClaimRefused(worker_id="w", pool=POOL, claim_id=claim_id, reason="no_job") for claim_id in ("bad", "good")
            ]

        async def getmany(self, *_: object, **__: object) -> dict[str, list[SimpleNamespace]]:
            if not self.facts:
                await asyncio.Event().wait()
            value = encode(Envelope(new_id(), "test", POOL, NOON, self.facts.pop(0), "c"))
            return {"jobs": [SimpleNamespace(value=value, offset=0)]}

    async def see(fact: Envelope[Event]) -> None:
        assert isinstance(fact.data, ClaimRefused)
        if fact.data.claim_id == "bad":
            raise KeyError("a bug")
        seen.set()

    monkeypatch.setattr(log.transport, "_see", see)
    log.transport._consumer = Tail()  # type: ignore[assignment]
    following = asyncio.create_task(log.transport._follow())
    async with asyncio.timeout(30):
        await seen.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

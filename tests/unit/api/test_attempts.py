"""Wrong administrator's tokens, at both apps that take them: so many are tried at once, and no more however many come."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from api import limits
from api.access import Access
from api.identity import TOKENS_PER_MINUTE
from api.limits import FAULTS_PER_MINUTE
from events.clock import Context
from events.envelope import Envelope, Event
from infra.runtime.clock import system_context
from producers import keys
from producers.keys import Key
from tests.support.apps import TOKEN, client, make, make_worker
from tests.support.remote import ABOUT


@pytest.fixture(autouse=True)
def _no_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "monotonic", lambda: 1000.0)


class Issuing(Access):
    """Issues keys that nobody keeps."""

    async def issue(self, **about: Any) -> tuple[Key, str]:
        """Return a key."""
        return keys.make(system_context("test"), "work")


async def register(http: httpx.AsyncClient, secret: str) -> int:
    answer = await http.post("/api/worker/register", json=ABOUT, headers={"X-Admin-Secret": secret})
    return answer.status_code


def worker_app() -> Any:
    def context(correlation_id: str | None = None) -> Context:
        return system_context("test", correlation_id)

    async def append(envelopes: Sequence[Envelope[Event]]) -> None:
        """Take them."""

    none: Any = None
    return make_worker(access=Issuing(none, append, context), append=append)


async def test_no_more_secrets_are_tried_at_the_worker_app_than_a_minute_allows() -> None:
    async with client(worker_app(), token=None) as http:
        tried = Counter(await asyncio.gather(*(register(http, f"guess {n}") for n in range(2 * FAULTS_PER_MINUTE))))
        assert tried == {403: FAULTS_PER_MINUTE, 429: FAULTS_PER_MINUTE}
        assert await register(http, TOKEN) == 429, "whoever guesses does not learn when the guess is right"


async def test_a_right_secret_is_no_attempt() -> None:
    async with client(worker_app(), token=None) as http:
        assert [await register(http, f"guess {n}") for n in range(FAULTS_PER_MINUTE - 1)] == [403] * (FAULTS_PER_MINUTE - 1)
        assert [await register(http, TOKEN) for _ in range(2 * FAULTS_PER_MINUTE)] == [200] * 2 * FAULTS_PER_MINUTE


@pytest.mark.parametrize("wrong", ["Bearer guess", f"bearer {TOKEN}x", "Bearer \xff"])
async def test_no_more_tokens_are_tried_at_the_admin_app_than_a_minute_allows(wrong: str) -> None:
    async with client(make("admin"), token=None) as http:

        async def status(authorization: str) -> int:
            headers = {b"Authorization": authorization.encode("latin-1")}
            return (await http.post("/api/uploads", json={}, headers=headers)).status_code

        for _ in range(TOKENS_PER_MINUTE - 1):
            assert await status(f"Bearer {TOKEN}") == 422
        assert [await status(wrong) for _ in range(TOKENS_PER_MINUTE)] == [401] * TOKENS_PER_MINUTE
        assert [await status(wrong), await status(f"Bearer {TOKEN}")] == [429, 429]

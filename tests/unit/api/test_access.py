"""Who may speak: a key is hashed once, revocation is noticed, guessing is slow, and every change is published first."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from api import access as module
from api.access import Access, Denied
from api.limits import FAULTS_PER_MINUTE, TooManyAttempts
from events.clock import Context
from events.envelope import Envelope, Event
from events.errors import LogUnavailable, Retryable
from events.pulse import Pulse
from events.workers import WorkerKeyRevoked
from infra.runtime.clock import new_id
from producers.keys import KEY_CHARS, PREFIX_CHARS
from tests.support.keys import MemoryKeys
from tests.support.minutes import stop_the_minute
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class World:
    """Keys, a log, and a time that the test moves."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.appended: list[Event] = []
        self.now = NOW
        self.log_is_away = False
        self.access = self.another()

    def another(self) -> Access:
        """Return the same keys in another process."""
        return Access(self.keys, self.append, lambda: Context(self.now, new_id, "test"))

    async def append(self, envelopes: Sequence[Envelope[Event]]) -> None:
        if self.log_is_away:
            raise LogUnavailable()
        self.appended += [envelope.data for envelope in envelopes]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world that is compared with the table at every request, and whose hashes are cheap."""
    monkeypatch.setattr("producers.keys._HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    monkeypatch.setattr(module, "COMPARED_WITHIN_S", 0.0)
    return World()


async def test_a_key_is_proven_once(world: World) -> None:
    key, text = await world.access.issue(name="attic")
    assert (await world.access.worker(text, "a")).key_id == key.key_id
    world.keys.rows[key.key_id] = key, "no hash any more"
    assert (await world.access.worker(text, "a")).key_id == key.key_id
    with pytest.raises(Denied):
        await world.another().worker(text, "a")


async def test_a_revocation_by_another_process_is_noticed(world: World) -> None:
    key, text = await world.access.issue()
    await world.access.worker(text, "a")
    await world.another().revoke(key.worker_id, "sold")
    with pytest.raises(Denied, match="revoked") as denied:
        await world.access.worker(text, "a")
    assert (denied.value.reason, denied.value.key and denied.value.key.key_id) == ("revoked", key.key_id)


async def test_a_revocation_bites_while_the_log_is_away_and_is_published_when_it_is_back(world: World) -> None:
    key, text = await world.access.issue()
    await world.access.worker(text, "a")
    world.log_is_away = True
    await world.another().revoke(key.worker_id, "sold")
    with pytest.raises(Denied, match="revoked"):
        await world.access.worker(text, "a")
    world.log_is_away = False
    revoked = [event async for event in _revocations_of(world)]
    assert [(event.key_id, event.reason) for event in revoked] == [(key.key_id, "sold")]


async def _revocations_of(world: World) -> AsyncIterator[WorkerKeyRevoked]:
    """Yield the revocations that the following process publishes, up to the first."""
    following = asyncio.create_task(world.access.follow(Pulse("comparing"), Pulse("publishing")))
    appended = await eventually(lambda: [event for event in world.appended if isinstance(event, WorkerKeyRevoked)])
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for event in appended:
        yield event


async def test_while_the_table_is_away_who_was_proven_goes_on_and_nobody_else_comes_in(world: World) -> None:
    key, text = await world.access.issue()
    _, unproven = await world.access.issue()
    await world.access.worker(text, "a")
    world.keys.away = True
    assert (await world.access.worker(text, "a")).key_id == key.key_id
    with pytest.raises(Retryable):
        await world.access.worker(unproven, "a")
    world.access.forget(key.key_id)  # the log has its revocation
    with pytest.raises(Retryable):
        await world.access.worker(text, "a")


async def test_what_changed_while_the_table_was_away_is_noticed_when_it_is_back(world: World) -> None:
    key, text = await world.access.issue()
    await world.access.worker(text, "a")
    world.keys.away = True
    await world.access.worker(text, "a")
    world.keys.away = False
    await world.another().revoke(key.key_id, "lost")
    with pytest.raises(Denied, match="revoked"):
        await eventually(lambda: world.access.worker(text, "a"), lambda key: not key)


async def test_a_key_that_is_remembered_ends_in_time(world: World) -> None:
    _, text = await world.access.issue(life=timedelta(hours=1))
    await world.access.worker(text, "a")
    world.now += timedelta(hours=1)
    with pytest.raises(Denied, match="expired"):
        await world.access.worker(text, "a")


async def test_guessing_has_to_wait_and_others_have_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    _, text = await world.access.issue()
    for _ in range(FAULTS_PER_MINUTE):
        with pytest.raises(Denied) as denied:
            await world.access.worker("x" * 43, "guesser")
        assert denied.value.status_code == 401
    with pytest.raises(TooManyAttempts) as refused:
        await world.access.worker("y" * 43, "guesser")
    assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "2"})
    await world.access.worker(text, "somebody else")


async def test_no_more_are_tried_however_many_come_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    _, text = await world.access.issue()
    proven: list[str] = []
    monkeypatch.setattr(module, "proves", lambda text, hash_: proven.append(text))
    tried = [world.access.worker(text[:PREFIX_CHARS] + f"{n:0{KEY_CHARS - PREFIX_CHARS}}", "guesser") for n in range(45)]
    answers = await asyncio.gather(*tried, return_exceptions=True)
    assert len(proven) == FAULTS_PER_MINUTE
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 45 - FAULTS_PER_MINUTE


async def test_right_keys_are_no_attempts_however_many_come_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    issued = [await world.access.issue() for _ in range(FAULTS_PER_MINUTE + 15)]
    found = await asyncio.gather(*(world.access.worker(text, "a") for _, text in issued))
    assert [key.key_id for key in found] == [key.key_id for key, _ in issued]


async def test_no_key_is_good_that_the_log_does_not_have(world: World) -> None:
    world.log_is_away = True
    with pytest.raises(LogUnavailable):
        await world.access.issue()
    assert not world.keys.rows


async def test_what_happens_to_keys_is_published_without_them(world: World) -> None:
    invitation, token = await world.access.invite(pools=("night",), kinds=("encode",), life=timedelta(hours=1))
    key, text = await world.access.join(token, "a", name="attic", pool="night", life=None)
    fresh, newer = await world.access.rotate(key, overlap=timedelta(minutes=5), life=None)
    await world.access.revoke(fresh.key_id, "sold")
    assert [type(event).__name__ for event in world.appended] == [
        "WorkerKeyIssued",
        "WorkerKeyRevoked",
        "WorkerKeyIssued",
        "WorkerKeyRotated",
        "WorkerKeyRevoked",
    ]
    assert {invitation.worker_id} == {key.worker_id, fresh.worker_id} == {event.worker_id for event in world.appended}  # type: ignore[attr-defined]
    assert (fresh.pools, fresh.kinds) == (("night",), ("encode",))
    assert not [secret for secret in (token, text, newer, "argon2") if secret in repr(world.appended)]
    await world.access.worker(text, "a")
    world.now += timedelta(minutes=5)
    with pytest.raises(Denied, match="expired"):
        await world.access.worker(text, "a")


async def test_a_join_token_opens_one_door_once(world: World) -> None:
    _, token = await world.access.invite(pools=("night",), kinds=(), life=timedelta(hours=1))
    with pytest.raises(Denied, match="for join"):
        await world.access.worker(token, "a")
    with pytest.raises(Denied, match="night"):
        await world.access.join(token, "a", name="", pool="day", life=None)
    await world.access.join(token, "a", name="", pool="night", life=None)
    with pytest.raises(Denied, match="revoked"):
        await world.access.join(token, "a", name="", pool="night", life=None)

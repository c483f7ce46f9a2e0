"""Passkeys: registered and used by a software authenticator, and each way to cheat."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from api.login.passkeys import PASSKEYS_MAX, Passkeys
from events.clock import Context
from events.envelope import Event
from events.errors import Conflict, NotFound, Unproven
from events.people import FactorAdded, FactorRemoved
from producers.passkeys import Site, site_of
from tests.support.authenticator import PRESENT, VERIFIED, Authenticator
from tests.support.factors import MemoryFactors

ORIGIN = "https://kino.home:9001"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
BROWSER = "the cookie of a browser"


class World:
    """One installation with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.made = 0
        self.log: list[Event] = []
        self.passkeys = Passkeys(MemoryFactors(), self._context, self._record, site_of(ORIGIN, "https://kino.home"))

    def _context(self) -> Context:
        self.made += 1
        return Context(self.now, lambda: f"id-{self.made}", "tests")

    async def _record(self, event: Event) -> None:
        self.log.append(event)

    async def add(self, key: Authenticator, user_id: str = "anna") -> str:
        return await self.passkeys.add(user_id, "phone", key.create(await self.passkeys.begin(user_id, user_id)))

    async def login(self, key: Authenticator) -> str:
        return await self.passkeys.login(key.get(await self.passkeys.begin_login(BROWSER)), BROWSER)

    async def refused(self, answer: dict[str, Any], browser: str = BROWSER) -> str:
        with pytest.raises(Unproven) as refused:
            await self.passkeys.login(answer, browser)
        return refused.value.reason


def key(**more: Any) -> Authenticator:
    return Authenticator(ORIGIN, "kino.home", **more)


async def test_a_person_registers_a_passkey_and_logs_in_with_it() -> None:
    world, phone = World(), key()
    passkey_id = await world.add(phone)
    assert world.log == [FactorAdded(user_id="anna", factor="passkey", factor_id=passkey_id)]
    assert [await world.login(phone) for _ in range(3)] == ["anna"] * 3
    ((row,),) = [await world.passkeys.listing("anna")]
    assert (row.passkey_id, row.name, row.used_at) == (passkey_id, "phone", NOW)


async def test_a_key_that_does_not_count_logs_in_again_and_again() -> None:
    world, synced = World(), key(counts=False)
    await world.add(synced)
    assert [await world.login(synced) for _ in range(3)] == ["anna"] * 3


async def test_a_person_has_several_and_is_offered_no_second_time() -> None:
    world, phone, stick = World(), key(), key(credential_id=b"a stick")
    await world.add(phone)
    options = await world.passkeys.begin("anna", "anna")
    assert [each["id"] for each in options["excludeCredentials"]] == [bytes_to_base64url(phone.credential_id)]
    assert options["rp"] == {"id": "kino.home", "name": "Kinolog"}
    assert options["authenticatorSelection"]["userVerification"] == "required"
    await world.add(stick)
    assert await world.login(stick) == await world.login(phone) == "anna"


async def test_a_passkey_of_somebody_else_cannot_be_claimed_or_removed() -> None:
    world, phone = World(), key()
    passkey_id = await world.add(phone)
    with pytest.raises(Conflict):
        await world.add(key(), "berta")
    with pytest.raises(NotFound):
        await world.passkeys.remove("berta", passkey_id)
    assert await world.login(phone) == "anna"
    await world.passkeys.remove("anna", passkey_id)
    assert world.log[-1] == FactorRemoved(user_id="anna", factor="passkey", factor_id=passkey_id, because="removed")
    assert await world.refused(phone.get(await world.passkeys.begin_login(BROWSER))) == "passkey_unknown"


async def test_a_passkey_that_names_another_person_is_refused() -> None:
    world, phone = World(), key()
    await world.add(phone)
    phone.handle = bytes_to_base64url(b"berta")
    assert await world.refused(phone.get(await world.passkeys.begin_login(BROWSER))) == "passkey_of_another"


async def test_another_key_under_the_same_name_is_refused() -> None:
    world = World()
    await world.add(key())
    assert (
        await world.refused(key(handle=bytes_to_base64url(b"anna")).get(await world.passkeys.begin_login(BROWSER)))
        == "passkey_refused"
    )


async def test_a_challenge_is_good_once_in_its_browser_and_in_time() -> None:
    world, phone = World(), key()
    await world.add(phone)
    options = await world.passkeys.begin_login(BROWSER)
    assert await world.refused(phone.get(options), "another browser") == "passkey_login_challenge"
    assert await world.passkeys.login(phone.get(options), BROWSER) == "anna"
    assert await world.refused(phone.get(options)) == "passkey_login_challenge"
    options = await world.passkeys.begin_login(BROWSER)
    world.now += timedelta(minutes=5)
    assert await world.refused(phone.get(options)) == "passkey_login_challenge"
    own = {"challenge": bytes_to_base64url(bytes(32))}
    assert await world.refused(phone.get(own)) == "passkey_login_challenge"


async def test_a_registration_is_its_persons_and_good_once() -> None:
    world, phone = World(), key()
    options = await world.passkeys.begin("anna", "anna")
    with pytest.raises(Unproven, match="start again"):
        await world.passkeys.add("berta", "phone", phone.create(options))
    await world.passkeys.add("anna", "phone", phone.create(options))
    with pytest.raises(Unproven, match="start again"):
        await world.passkeys.add("anna", "phone", key(credential_id=b"other").create(options))
    login = await world.passkeys.begin_login("anna")
    with pytest.raises(Unproven, match="start again"):
        await world.passkeys.add("anna", "phone", key(credential_id=b"other").create(login | {"user": {"id": "YW5uYQ"}}))


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://kino.home.elsewhere"},
        {"origin": "http://kino.home:9001"},
        {"rp_id": "elsewhere"},
        {"flags": PRESENT},
        {"flags": VERIFIED},
    ],
)
async def test_answers_for_another_site_or_without_the_person_are_refused(change: dict[str, Any]) -> None:
    world, phone = World(), key()
    with pytest.raises(Unproven):
        await world.add(replace(phone, **change))
    await world.add(phone)
    assert await world.refused(replace(phone, **change).get(await world.passkeys.begin_login(BROWSER))) == "passkey_refused"


async def test_a_copied_key_is_refused_by_its_count() -> None:
    world, phone = World(), key()
    await world.add(phone)
    copy = replace(phone)
    await world.login(phone)
    assert await world.refused(copy.get(await world.passkeys.begin_login(BROWSER))) == "passkey_refused"


@pytest.mark.parametrize(
    "answer", [{}, {"response": 3}, {"response": {"clientDataJSON": "x"}}, {"response": {"clientDataJSON": "eyJ9"}}]
)
async def test_malformed_answers_are_refused(answer: dict[str, Any]) -> None:
    world = World()
    assert await world.refused(answer) == "passkey_malformed"
    with pytest.raises(Unproven):
        await world.passkeys.add("anna", "phone", answer)


@pytest.mark.parametrize("field", ["signature", "authenticatorData", "userHandle"])
async def test_broken_answers_are_refused(field: str) -> None:
    world, phone = World(), key()
    await world.add(phone)
    for broken in (None, 3, "", "!", "AAAA"):
        answer = phone.get(await world.passkeys.begin_login(BROWSER))
        answer["response"][field] = broken
        if field != "userHandle" or broken is not None:  # a key may leave the person out
            assert await world.refused(answer) in ("passkey_refused", "passkey_of_another")


async def test_an_account_has_so_many_passkeys_at_most() -> None:
    world = World()
    for number in range(PASSKEYS_MAX):
        await world.add(key(credential_id=f"key {number}".encode()))
    with pytest.raises(Conflict):
        await world.passkeys.begin("anna", "anna")
    assert await world.passkeys.reset("anna")
    assert not await world.passkeys.reset("anna")
    assert list(await world.passkeys.listing("anna")) == []
    assert [event for event in world.log if isinstance(event, FactorRemoved)] == [
        FactorRemoved(user_id="anna", factor="passkey", factor_id=event.factor_id, because="reset")
        for event in world.log[:PASSKEYS_MAX]
        if isinstance(event, FactorAdded)
    ]


def test_a_site_is_the_first_apps_host() -> None:
    assert site_of("https://kino.home:9001/x", "https://kino.home") == Site(
        "kino.home", ("https://kino.home:9001", "https://kino.home")
    )
    assert site_of("https://kino.home", "https://watch.kino.home", "https://notkino.home", "https://other") == Site(
        "kino.home", ("https://kino.home", "https://watch.kino.home")
    )


def test_the_authenticator_of_tests_signs_what_it_says() -> None:
    answer = key().get({"challenge": "AAAA"})
    assert base64url_to_bytes(answer["response"]["authenticatorData"])[32] == PRESENT | VERIFIED

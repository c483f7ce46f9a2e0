"""Attacks on logins and rights that need an odd order, two requests at once, or patience."""

import asyncio
import threading
import unicodedata
from typing import Any

import pyotp
import pytest

from api.login.people import LOGINS_PER_MINUTE, TOKENS_MAX
from api.login.second import CODES_AT_ONCE
from events.errors import Retryable
from events.people import PasswordChanged, SessionOpened
from tests.support.apps import TOKEN
from tests.support.live import parse, percents, running, tick
from tests.support.memory_log import MemoryLog
from tests.support.place import HOME, PASSWORD, Place, login
from tests.support.waiting import eventually

OTHER = "other words for the same person"


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}, None])
async def test_two_administrators_who_put_each_other_out_at_once_leave_one(change: dict[str, Any] | None) -> None:
    place = Place()
    async with place.browser() as anna, place.browser() as bert:
        annas = await place.person(anna, "administrator", "anna")
        berts = await place.person(bert, "administrator", "bert")
        method = "PATCH" if change else "DELETE"
        both = await asyncio.gather(
            anna.request(method, f"/api/users/{berts}", json=change), bert.request(method, f"/api/users/{annas}", json=change)
        )
        assert sorted(answer.status_code == 204 for answer in both) == [False, True]
        assert len(place.home.people.directory.administrators()) == 1


async def test_an_old_password_whose_proof_is_late_opens_no_session_after_the_new_one() -> None:
    place = Place()
    async with place.browser() as http, place.browser() as thief, place.browser(**bearer()) as chief:
        user_id = await place.person(http)
        link = (await chief.post(f"/api/users/{user_id}/reset")).json()["token"]
        passwords, proven, changed = place.home.people.passwords, threading.Event(), threading.Event()
        proves = passwords.proves

        def late(password: str, hash_: str | None) -> bool:
            found = proves(password, hash_)
            proven.set()
            changed.wait(10)
            return found

        passwords.proves = late  # type: ignore[method-assign]
        trying = asyncio.create_task(login(thief))
        await asyncio.to_thread(proven.wait, 10)
        assert (await http.post("/api/auth/accept", json={"token": link, "password": OTHER})).status_code == 200
        changed.set()
        assert (await trying).status_code == 401
    kinds = [type(event) for event in place.log if isinstance(event, PasswordChanged | SessionOpened)]
    assert kinds == [SessionOpened, PasswordChanged, SessionOpened]


@pytest.mark.parametrize("way", ["disable", "end the session", "revoke the token"])
async def test_a_stream_ends_with_the_right_to_hear_it(way: str) -> None:
    log = MemoryLog()
    async with running(log) as hub:
        await hub.progress.news(1)
        place = Place(live=hub)
        async with place.browser() as http, place.browser(**bearer()) as chief:
            user_id = await place.person(http)
            made = (await http.post("/api/tokens", json={"name": "listener", "rights": ["read"]})).json()
            headers = bearer(made["token"]) if way == "revoke the token" else {}
            headers["Last-Event-ID"] = hub.progress.id_of(hub.progress.reached)
            hearing = asyncio.create_task(http.get("/api/events/progress", headers=headers))
            await eventually(lambda: hub.listeners == 1)
            await log.append(tick(1))
            await eventually(lambda: hub.progress.end == 1)
            if way == "disable":
                assert (await chief.patch(f"/api/users/{user_id}", json={"disabled": True})).status_code == 204
            elif way == "end the session":
                assert (await http.post("/api/auth/logout")).status_code == 204
            else:
                assert (await http.post(f"/api/tokens/{made['token_id']}/revoke")).status_code == 204
            await log.append(tick(2))
            answer = await asyncio.wait_for(hearing, 30)
        assert (answer.status_code, 2.0 in percents(parse(answer.content))) == (200, False)


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_token", [False, True])
async def test_a_link_ends_with_its_makers_right_to_make_it(*, by_token: bool) -> None:
    place = Place()
    async with place.browser() as rogue, place.browser(**bearer()) as chief, place.browser() as http:
        user_id = await place.person(rogue, "administrator", "rogue")
        await place.person(http, "administrator", "chief")
        headers = {}
        if by_token:
            made = await rogue.post("/api/tokens", json={"name": "back door", "rights": ["administer"]})
            headers = bearer(made.json()["token"])
        made = await rogue.post("/api/users/invitations", json={"role": "administrator"}, headers=headers)
        acceptance = {"token": made.json()["token"], "name": "puppet", "password": PASSWORD}
        assert (await chief.patch(f"/api/users/{user_id}", json={"role": "viewer"})).status_code == 204
        async with place.browser() as stranger:
            assert (await stranger.post("/api/auth/accept", json=acceptance)).status_code == 401
    assert place.reasons()[-1] == "link_spent"


async def test_a_new_password_ends_the_links_for_another_one() -> None:
    place = Place()
    async with place.browser() as http, place.browser(**bearer()) as chief, place.browser() as thief:
        user_id = await place.person(http)
        leaked, used = [(await chief.post(f"/api/users/{user_id}/reset")).json()["token"] for _ in range(2)]
        assert (await http.post("/api/auth/accept", json={"token": used, "password": OTHER})).status_code == 200
        again = await thief.post("/api/auth/accept", json={"token": leaked, "password": PASSWORD})
        assert again.status_code == 401
        leaked = (await chief.post(f"/api/users/{user_id}/reset")).json()["token"]
        wanted = {"password": OTHER, "new_password": PASSWORD}
        assert (await http.post("/api/auth/password", json=wanted)).status_code == 204
        again = await thief.post("/api/auth/accept", json={"token": leaked, "password": OTHER})
        assert again.status_code == 401


# --- guessing ---------------------------------------------------------------------------------------------------------


async def with_second_factor(place: Place, http: Any) -> None:
    await place.person(http)
    secret = (await http.post("/api/auth/totp", json={"password": PASSWORD})).json()["secret"]
    assert (await http.post("/api/auth/totp/verify", json={"code": pyotp.TOTP(secret).now()})).status_code == 200


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/totp/remove", "/api/auth/totp/recovery-codes"])
async def test_codes_are_guessed_slowly_wherever_and_from_many_addresses(path: str) -> None:
    place = Place()
    async with place.browser() as http, place.browser() as thief:
        await with_second_factor(place, http)
        where = thief if path.endswith("login") else http
        body: dict[str, str] = {"password": PASSWORD} | ({"name": "anna"} if where is thief else {})
        tried = []
        for number in range(CODES_AT_ONCE + 3):
            place.home.people.by_address = type(place.home.people.by_address)(LOGINS_PER_MINUTE)  # each from another address
            tried.append((await where.post(path, json=body | {"code": f"{number:06}"})).status_code)
        assert tried == [401] * CODES_AT_ONCE + [429] * 3
        after = await where.post(path, json=body | {"code": "999999"})
        assert int(after.headers["retry-after"]) > 60, "so that a year of guesses hits one of a million in few cases"


async def test_nobody_who_knows_the_password_locks_out_the_browser_of_its_person() -> None:
    place = Place()
    async with place.browser() as http, place.browser() as thief:
        await with_second_factor(place, http)
        for number in range(CODES_AT_ONCE + 1):
            place.home.people.by_address = type(place.home.people.by_address)(LOGINS_PER_MINUTE)
            last = await login(thief, code=f"{number:06}")
        assert last.status_code == 429
        assert (await login(http, code="000000")).status_code == 401, "the browser in which she has logged in is heard"


async def test_a_flood_of_strangers_does_not_keep_a_known_browser_waiting() -> None:
    place = Place()
    async with place.browser() as http, place.browser() as crowd:
        await place.person(http)
        place.home.people.by_address = type(place.home.people.by_address)(1000)  # the crowd has many addresses
        passwords, over = place.home.people.passwords, threading.Event()
        proves = passwords.proves

        def slow_for_nobodies(password: str, hash_: str | None) -> bool:
            if hash_ is None:
                over.wait(30)
            return proves(password, hash_)

        passwords.proves = slow_for_nobodies  # type: ignore[method-assign]
        flood = [asyncio.create_task(login(crowd, name=f"nobody {n}")) for n in range(50)]
        answer = await asyncio.wait_for(login(http), 20)
        assert answer.status_code == 200
        over.set()
        assert {one.status_code for one in await asyncio.gather(*flood)} == {401}


# --- other sites, other spellings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), (HOME, 200)])
async def test_another_sites_page_logs_nobody_in_from_a_browser_without_fetch_metadata(origin: str, status: int) -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
    async with place.browser() as victim:
        del victim.headers["Sec-Fetch-Site"]
        victim.headers["Origin"] = origin
        assert (await login(victim)).status_code == status


@pytest.mark.parametrize("like", [unicodedata.normalize("NFD", "Zoë"), "ZOË", "Zoë ", "\uff3aoë"])
async def test_a_name_is_one_name_in_every_spelling(like: str) -> None:
    place = Place()
    async with place.browser() as http, place.browser() as other:
        await place.person(http, name="Zoë")
        answer = await other.post("/api/auth/accept", json={"token": await place.link(), "name": like, "password": PASSWORD})
        assert answer.status_code == 409
        assert (await login(other, name=like)).status_code == 200


# --- more than is good ------------------------------------------------------------------------------------------------


async def test_a_person_has_a_bounded_number_of_tokens() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http, "viewer")
        wanted = {"name": "more", "rights": ["self"]}
        for _ in range(TOKENS_MAX):
            made = await http.post("/api/tokens", json=wanted)
        assert made.status_code == 201
        refused = await http.post("/api/tokens", json=wanted)
        assert (refused.status_code, "revoke" in refused.json()["detail"]) == (409, True)
        assert (await http.post(f"/api/tokens/{made.json()['token_id']}/revoke")).status_code == 204
        assert (await http.post("/api/tokens", json=wanted)).status_code == 201


async def test_a_deletion_that_stumbles_is_done_again() -> None:
    place = Place()
    async with place.browser() as http, place.browser(**bearer()) as chief:
        user_id = await place.person(http)
        forget = place.home.people.accounts.forget

        async def away(user_id: str) -> None:
            place.home.people.accounts.forget = forget  # type: ignore[method-assign]
            raise Retryable("the database does not answer")

        place.home.people.accounts.forget = away  # type: ignore[method-assign]
        assert (await chief.delete(f"/api/users/{user_id}")).status_code == 503
        assert (await chief.delete(f"/api/users/{user_id}")).status_code == 204
        assert await place.home.people.accounts.account("anna") is None

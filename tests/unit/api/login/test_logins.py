"""People log in, are let in by their rights, and put out; attacks are refused, and leave an event."""

from typing import Literal

import pyotp
import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters

from api.identity import COOKIE
from api.login.people import DEVICE, LOGINS_PER_MINUTE
from api.rights import ROUTES, RouteWithoutRight, doors
from events.people import SessionEnded, SessionOpened
from infra.runtime.clock import system_context
from projections.people.rights import ROLES
from tests.support.apps import TOKEN, make
from tests.support.place import HOME, PASSWORD, Place, login

# --- coming in --------------------------------------------------------------------------------------------------------


async def test_an_installation_is_set_up_by_a_link_that_is_good_once() -> None:
    place = Place()
    async with place.browser() as http:
        assert (await http.get("/api/auth/check")).json()["setup_required"]
        link = await place.link("setup")
        acceptance = {"token": link, "name": "anna", "password": PASSWORD}
        assert (await http.post("/api/auth/accept", json=acceptance | {"password": "password1234"})).status_code == 422
        assert (await http.post("/api/auth/accept", json=acceptance)).status_code == 200
        shown = (await http.get("/api/auth/check")).json()
        assert (shown["name"], shown["role"], shown["setup_required"]) == ("anna", "administrator", False)
        again = await http.post("/api/auth/accept", json=acceptance | {"name": "eve"})
        assert again.status_code == 401
        refused = await http.post("/api/users/invitations", json={"purpose": "setup"})
        assert refused.status_code == 409, "somebody administers it already"
    assert "link_spent" in place.reasons()


async def test_a_login_opens_a_new_session_whatever_cookie_the_browser_has() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        first = http.cookies[COOKIE]
        http.cookies.clear()
        http.cookies.set(COOKIE, "chosen-by-the-attacker")
        answer = await login(http)
        assert answer.status_code == 200
        fresh = answer.cookies[COOKIE]
        assert fresh not in (first, "chosen-by-the-attacker")
        cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(f"{COOKIE}="))
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
    async with place.browser() as thief:
        thief.cookies.set(COOKIE, "chosen-by-the-attacker")
        assert (await thief.get("/api/videos")).status_code == 401
    assert "session_unknown" in place.reasons()


class CountedHasher(PasswordHasher):
    """Remembers the cost of each check."""

    def __init__(self, like: PasswordHasher) -> None:
        super().__init__(like.time_cost, like.memory_cost, like.parallelism)
        self.costs: list[Parameters] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.costs.append(extract_parameters(str(hash)))
        return super().verify(hash, password)


@pytest.mark.parametrize("name", ["anna", "nobody", "provider's person"])
async def test_a_wrong_login_costs_one_hash_whether_somebody_has_the_name_or_not(name: str) -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        await place.home.people.accounts.add_account("id", "provider's person", system_context("test").now)
        passwords = place.home.people.passwords
        passwords._hasher = hasher = CountedHasher(passwords._hasher)
        assert (await login(http, name, "wrong but long enough")).status_code == 401
    assert hasher.costs == [extract_parameters(passwords.hashed(PASSWORD))]


@pytest.mark.parametrize(("name", "password"), [("anna", "wrong but long enough"), ("nobody", PASSWORD)])
async def test_wrong_names_and_wrong_passwords_get_the_same_answer(name: str, password: str) -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        answer = await login(http, name, password)
        assert (answer.status_code, answer.json()["detail"]) == (401, "name or password is wrong")
    assert place.reasons() == ["password_wrong"]


async def test_nobody_can_lock_a_person_out_of_the_browser_that_knows_them() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        async with place.browser() as attacker:
            tried = [(await login(attacker, password=f"guess number {n}")).status_code for n in range(LOGINS_PER_MINUTE + 3)]
            assert tried[-1] == 429 and tried.count(401) == LOGINS_PER_MINUTE
            place.home.people.by_address = type(place.home.people.by_address)(1000)  # the attacker has many addresses
            assert (await login(attacker)).status_code == 429, "the account is throttled for strangers"
        assert (await login(http)).status_code == 200, "not for the browser in which she has logged in"


async def test_a_second_factor_is_asked_for_and_its_code_is_good_once() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        secret = (await http.post("/api/auth/totp", json={"password": PASSWORD})).json()["secret"]
        code = pyotp.TOTP(secret).now()
        assert (await http.post("/api/auth/totp/verify", json={"code": code})).status_code == 200
        missing = await login(http)
        assert (missing.status_code, missing.json()["state"]) == (401, "factor_missing")
        assert (await login(http, code=code)).status_code == 401, "it was used to prove the secret"
    assert "totp_replayed" in place.reasons()


async def test_a_link_for_a_new_password_does_not_replace_the_second_factor() -> None:
    place = Place()
    async with place.browser() as http, place.browser(Authorization=f"Bearer {TOKEN}") as chief:
        user_id = await place.person(http)
        secret = (await http.post("/api/auth/totp", json={"password": PASSWORD})).json()["secret"]
        assert (await http.post("/api/auth/totp/verify", json={"code": pyotp.TOTP(secret).now()})).status_code == 200
        link = (await chief.post(f"/api/users/{user_id}/reset")).json()["token"]
        async with place.browser() as thief:
            answer = await thief.post("/api/auth/accept", json={"token": link, "password": "the words of a thief of links"})
            assert (answer.status_code, answer.json()["authenticated"]) == (200, False)
            assert (await thief.get("/api/auth/sessions")).status_code == 401
            missing = await login(thief, password="the words of a thief of links")
            assert missing.json()["state"] == "factor_missing"


async def test_another_sites_page_logs_nobody_in() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
    async with place.browser(**{"Sec-Fetch-Site": "cross-site"}) as http:
        assert (await login(http)).status_code == 403
    assert place.reasons() == ["other_origin"]


async def test_a_device_that_an_attacker_chose_is_not_kept() -> None:
    place = Place()
    async with place.browser() as http:
        http.cookies.set(DEVICE, "chosen-by-the-attacker")
        await place.person(http)
    async with place.browser() as attacker:
        attacker.cookies.set(DEVICE, "chosen-by-the-attacker")
        place.home.people.by_account = type(place.home.people.by_account)(2)
        assert [(await login(attacker, password=f"guess number {n}")).status_code for n in range(3)] == [401, 401, 429]
        async with place.browser() as stranger:
            assert (await login(stranger, password="guess number 4")).status_code == 429, "one count for all strangers"


# --- rights -----------------------------------------------------------------------------------------------------------


def test_a_route_without_a_right_does_not_start() -> None:
    app = make("admin")
    app.add_api_route("/api/forgotten", lambda: None)
    with pytest.raises(RouteWithoutRight, match="GET /api/forgotten"):
        doors(app.routes)


async def test_a_downgrade_works_in_the_middle_of_a_session() -> None:
    place = Place()
    async with place.browser() as http, place.browser() as chief:
        await place.person(chief, "administrator", "chief")
        user_id = await place.person(http, "administrator")
        assert (await http.get("/api/users")).status_code == 200
        assert (await chief.patch(f"/api/users/{user_id}", json={"role": "viewer"})).status_code == 204
        assert (await http.get("/api/users")).status_code == 401
        assert (await login(http)).status_code == 200
        assert (await http.get("/api/users")).status_code == 403
    assert {"session_ended", "lacks_administer"} <= set(place.reasons())


async def test_the_last_administrator_stays() -> None:
    place = Place()
    async with place.browser() as http:
        user_id = await place.person(http, "administrator")
        for change in ({"role": "viewer"}, {"disabled": True}):
            assert (await http.patch(f"/api/users/{user_id}", json=change)).status_code == 409
        assert (await http.delete(f"/api/users/{user_id}")).status_code == 409


async def test_a_disabled_person_is_out_and_a_deleted_one_leaves_a_pseudonym() -> None:
    place = Place()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with place.browser() as http:
        user_id = await place.person(http)
        async with place.browser(**bearer) as chief:
            assert (await chief.patch(f"/api/users/{user_id}", json={"disabled": True, "reason": "left"})).status_code == 204
            assert (await http.get("/api/auth/sessions")).status_code == 401
            assert (await login(http)).status_code == 401
            assert (await chief.patch(f"/api/users/{user_id}", json={"disabled": False})).status_code == 204
            assert (await login(http)).status_code == 200
            assert (await chief.delete(f"/api/users/{user_id}")).status_code == 204
            (shown,) = (await chief.get("/api/users")).json()["items"]
            assert (shown["user_id"], shown["name"], shown["deleted"]) == (user_id, None, True)
        assert (await http.get("/api/auth/sessions")).status_code == 401
        assert (await login(http)).status_code == 401


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_and_ended_one_by_one() -> None:
    place = Place()
    async with place.browser() as laptop, place.browser() as phone:
        await place.person(laptop)
        await login(phone)
        listed = (await laptop.get("/api/auth/sessions")).json()
        assert [one["this"] for one in listed] == [False, True]
        assert (await laptop.post(f"/api/auth/sessions/{listed[0]['session_id']}/end")).status_code == 204
        assert (await phone.get("/api/auth/sessions")).status_code == 401
        assert (await laptop.post("/api/auth/sessions/unknown/end")).status_code == 404
        assert (await laptop.post("/api/auth/logout")).status_code == 204
        assert (await laptop.get("/api/auth/sessions")).status_code == 401
    ended = [event.because for event in place.log if isinstance(event, SessionEnded)]
    assert ended == ["ended", "logout"]


async def test_a_new_password_ends_all_other_sessions() -> None:
    place = Place()
    async with place.browser() as laptop, place.browser() as phone:
        await place.person(laptop)
        await login(phone)
        wanted = {"password": PASSWORD, "new_password": "other words for the same"}
        assert (await laptop.post("/api/auth/password", json=wanted)).status_code == 204
        assert (await laptop.get("/api/auth/sessions")).status_code == 200
        assert (await phone.get("/api/auth/sessions")).status_code == 401
        assert (await login(phone)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"X-CSRF-Token": "guessed"}, 403),
        ({"Origin": HOME}, 204),
        ({"Sec-Fetch-Site": "same-origin"}, 204),
    ],
)
async def test_a_change_must_come_from_our_own_page(headers: dict[str, str], status: int) -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        del http.headers["Sec-Fetch-Site"]
        assert (await http.post("/api/auth/logout", headers=headers)).status_code == status
    assert place.reasons() == (["other_origin"] if status == 403 else [])


async def test_a_client_without_origin_sends_the_token_of_its_session() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        token = (await http.get("/api/auth/csrf-token")).json()["csrf_token"]
        del http.headers["Sec-Fetch-Site"]
        assert (await http.post("/api/auth/logout", headers={"X-CSRF-Token": token})).status_code == 204


async def test_a_session_over_tls_is_refused_on_a_plain_connection() -> None:
    place = Place()
    async with place.browser("https://test") as http:
        await place.person(http)
        assert f"__Host-{COOKIE}" in http.cookies and COOKIE not in http.cookies
        secret = http.cookies[f"__Host-{COOKIE}"]
    async with place.browser("http://test") as plain:
        for name in (COOKIE, f"__Host-{COOKIE}"):
            plain.cookies.clear()
            plain.cookies.set(name, secret)
            answer = await plain.get("/api/auth/sessions")
            assert (name, answer.status_code) == (name, 401 if name != COOKIE else 200)


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_and_does_what_it_is_for() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http)
        made = await http.post("/api/tokens", json={"name": "import", "rights": ["self", "upload"]})
        assert made.status_code == 201
        text, token_id = made.json()["token"], made.json()["token_id"]
        (listed,) = (await http.get("/api/tokens")).json()["items"]
        assert listed["prefix"] == text[:11] and text not in str(listed)
        async with place.browser(Authorization=f"Bearer {text}") as script:
            assert (await script.post("/api/uploads", json={})).status_code == 422, "let in"
            assert (await script.post("/api/tokens", json={"name": "more", "rights": ["self"]})).status_code == 403
            assert (await script.post("/api/jobs/retry", json={})).status_code == 403
            assert (await http.post(f"/api/tokens/{token_id}/revoke")).status_code == 204
            assert (await script.post("/api/uploads", json={})).status_code == 401
    assert "token_ended" in place.reasons()


async def test_the_file_token_makes_tokens_that_outlive_it() -> None:
    place = Place()
    async with place.browser(Authorization=f"Bearer {TOKEN}") as http:
        text = (await http.post("/api/tokens", json={"name": "first", "rights": ["upload"]})).raise_for_status().json()["token"]
    place.home.doors.bootstrap = ""
    async with place.browser(Authorization=f"Bearer {TOKEN}") as http, place.browser(Authorization=f"Bearer {text}") as script:
        assert (await http.get("/api/tokens")).status_code == 401, "it is switched off"
        assert (await script.post("/api/uploads", json={})).status_code == 422, "let in"


async def test_nobody_gives_a_token_rights_that_they_lack() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http, "viewer")
        refused = await http.post("/api/tokens", json={"name": "more", "rights": ["edit"]})
        assert refused.status_code == 403
    assert "lacks_edit" in place.reasons()


async def test_nobody_sees_or_revokes_the_tokens_of_others() -> None:
    place = Place()
    async with place.browser() as anna, place.browser() as bert, place.browser() as chief:
        await place.person(anna, "operator", "anna")
        await place.person(bert, "operator", "bert")
        await place.person(chief, "administrator", "chief")
        token_id = (await anna.post("/api/tokens", json={"name": "hers", "rights": ["read"]})).json()["token_id"]
        assert (await bert.get("/api/tokens")).json()["items"] == []
        assert (await bert.post(f"/api/tokens/{token_id}/revoke")).status_code == 404
        assert len((await chief.get("/api/tokens")).json()["items"]) == 1
        assert (await chief.post(f"/api/tokens/{token_id}/revoke")).status_code == 204


async def test_a_token_in_an_address_is_not_read() -> None:
    place = Place()
    async with place.browser() as http:
        answer = await http.get("/api/videos", params={"token": TOKEN})
        assert (answer.status_code, "header" in answer.json()["detail"]) == (401, True)
    assert place.reasons() == ["token_in_address"]


async def test_the_log_has_no_names_and_no_secrets() -> None:
    place = Place()
    async with place.browser() as http:
        await place.person(http, name="anna-unmistakable")
        await login(http, "anna-unmistakable")
        await http.post("/api/tokens", json={"name": "import", "rights": ["read"]})
        secrets = [http.cookies[COOKIE], PASSWORD, "anna-unmistakable"]
    text = " ".join(event.model_dump_json() for event in place.log)
    assert not any(secret in text for secret in secrets)
    assert sum(isinstance(event, SessionOpened) for event in place.log) == 2


def test_rights_are_words_of_the_table() -> None:
    assert set(ROUTES.values()) - {"open", "metrics", "session"} <= ROLES["administrator"]

"""People on the real platform: the log, PostgreSQL, a second app instance; whoever is put out is out everywhere soon."""

import asyncio
from typing import Any

import httpx

from api.identity import COOKIE
from events.envelope import Recorded
from tests.support.log import read_topic
from tests.support.members import PASSWORD, browser, member
from tests.support.platform import Platform
from tests.support.waiting import eventually


async def of_people(platform: Platform, user_id: str) -> list[Recorded[Any]]:
    """Return the events about a person."""
    return [one for one in await read_topic(platform.settings, "people") if one.envelope.subject == user_id]


async def test_what_a_person_does_has_their_name_on_the_log_and_in_the_audit(platform: Platform) -> None:
    async with browser(platform) as http:
        user_id = await member(platform, http, "dora")
        assert (await http.get("/api/videos")).status_code == 200
        begun = await http.post("/api/uploads", json={"filename": "a.mp4", "size_bytes": 10})
        video_id = begun.json()["video_id"]
        assert (await http.delete("/api/worker-keys")).status_code == 405
        assert (await http.get("/api/users")).status_code == 403
    (started,) = [one for one in await read_topic(platform.settings, "videos") if one.envelope.subject == video_id]
    assert started.envelope.actor == f"user:{user_id}" and started.envelope.client

    async def audited() -> list[Any]:
        answer = await platform.admin.get("/api/audit", params={"limit": 100})
        return list(answer.raise_for_status().json()["items"])

    items = await eventually(audited, lambda found: {"access.refused", "person.created"} <= {one["action"] for one in found})
    assert any(one["action"] == "upload.started" and one["actor"] == f"user:{user_id}" for one in items)
    assert any("lacks_administer" in one["reason"] for one in items if one["action"] == "access.refused")
    assert "dora" not in str([one.envelope for one in await of_people(platform, user_id)])


async def test_a_disabled_person_and_a_revoked_token_are_out(platform: Platform) -> None:
    async with browser(platform) as http:
        user_id = await member(platform, http, "erik")
        made = (await http.post("/api/tokens", json={"name": "script", "rights": ["read"]})).json()
        async with httpx.AsyncClient(base_url=str(platform.admin.base_url)) as script:
            script.headers["Authorization"] = f"Bearer {made['token']}"
            assert (await script.get("/api/jobs")).status_code == 200
            await platform.admin.patch(f"/api/users/{user_id}", json={"disabled": True})
            assert (await http.get("/api/jobs")).status_code == 401
            assert (await script.get("/api/jobs")).status_code == 401
            await platform.admin.patch(f"/api/users/{user_id}", json={"disabled": False})
            assert (await script.get("/api/jobs")).status_code == 200
            await platform.admin.post(f"/api/tokens/{made['token_id']}/revoke")
            assert (await script.get("/api/jobs")).status_code == 401


async def test_sessions_and_tokens_outlive_a_killed_app(settings: Any) -> None:
    async with Platform(settings, workers=0, supervised=True) as platform, browser(platform) as http:
        await member(platform, http, "frida")
        ended = await member(platform, http, "gina")
        await platform.admin.patch(f"/api/users/{ended}", json={"disabled": True})
        answer = await http.post("/api/auth/login", json={"name": "frida", "password": PASSWORD})
        assert answer.status_code == 200
        await platform.kill("admin")
        await platform.recovered()
        assert (await http.get("/api/jobs")).status_code == 200
        gone = await http.post("/api/auth/login", json={"name": "gina", "password": PASSWORD})
        assert gone.status_code == 401


async def test_a_link_is_good_for_one_of_two_requests_at_once(platform: Platform) -> None:
    made = await platform.admin.post("/api/users/invitations", json={"role": "viewer"})
    token = made.json()["token"]
    async with browser(platform) as http:
        both = await asyncio.gather(
            *(
                http.post("/api/auth/accept", json={"token": token, "name": name, "password": PASSWORD})
                for name in ("hanna", "hans")
            )
        )
    assert sorted(answer.status_code for answer in both) == [200, 401]
    assert sum(COOKIE in answer.cookies for answer in both) == 1

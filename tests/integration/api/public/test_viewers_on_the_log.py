"""The public app follows people on the real log: a person who loses the right to a private video is out within two seconds."""

import time
from functools import partial

import httpx
import pytest

from api.identity import COOKIE
from tests.support import clips
from tests.support.members import browser, member
from tests.support.platform import Platform, kinolog
from tests.support.waiting import eventually

SOON_S = 2.0


@pytest.fixture(scope="session")
async def path(platform: Platform) -> str:
    """The path of a private video at the public app; its upload says that it is."""
    video_id = await platform.upload(clips.real_clips()["carphone"], title="For few", visibility="private")
    video = await platform.until(video_id, lambda found: found.get("status") == "processing")
    assert video["visibility"] == "private"
    return f"/api/videos/{video['slug']}"


async def status_of(http: httpx.AsyncClient, path: str) -> int:
    return (await http.get(path)).status_code


@pytest.mark.parametrize("how", ["session", "role", "disabled"])
async def test_a_person_who_loses_the_right_is_out_within_two_seconds(platform: Platform, path: str, how: str) -> None:
    async with browser(platform) as admin, httpx.AsyncClient(base_url=str(platform.public.base_url), timeout=30) as http:
        user_id = await member(platform, admin, f"judith-{how}")
        assert await status_of(http, path) == 404
        http.cookies.set(COOKIE, admin.cookies[COOKIE])
        assert await status_of(http, path) == 200
        if how == "session":
            asked = await admin.post("/api/auth/logout")
        else:
            change = {"role": "viewer"} if how == "role" else {"disabled": True}
            asked = await platform.admin.patch(f"/api/users/{user_id}", json=change)
        asked.raise_for_status()
        begun = time.monotonic()
        await eventually(partial(status_of, http, path), lambda status: status == 404)
        took_s = time.monotonic() - begun
        print(f"{how}: refused after {took_s * 1000:.0f} ms")
        assert took_s <= SOON_S


async def test_the_command_line_names_a_person_who_may_watch(platform: Platform, path: str) -> None:
    slug = path.rsplit("/", 1)[1]
    async with browser(platform) as admin, httpx.AsyncClient(base_url=str(platform.public.base_url), timeout=30) as http:
        await member(platform, admin, "klara", "viewer")
        http.cookies.set(COOKIE, admin.cookies[COOKIE])
        assert await status_of(http, path) == 404
        done = kinolog(platform, "visibility", slug, "private", "--user", "klara")
        assert done.returncode == 0, done.stderr
        await eventually(partial(status_of, http, path), lambda status: status == 200)
        wrong = kinolog(platform, "visibility", slug, "public", "--role", "viewer")
        assert wrong.returncode != 0 and "visibility private" in wrong.stderr

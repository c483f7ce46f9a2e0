"""Members of a real platform: a browser of theirs at the admin app, logged in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.support.platform import Platform

PASSWORD = "several words for the test"


@asynccontextmanager
async def browser(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser at the admin app."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=str(platform.admin.base_url), headers=headers, timeout=30) as http:
        yield http


async def member(platform: Platform, http: httpx.AsyncClient, name: str, role: str = "operator") -> str:
    """Make a person by an invitation; the browser is logged in. Return their id."""
    made = await platform.admin.post("/api/users/invitations", json={"role": role})
    token = made.raise_for_status().json()["token"]
    answer = await http.post("/api/auth/accept", json={"token": token, "name": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str((await http.get("/api/auth/check")).json()["user_id"])

"""A wrong login of a name that somebody has takes as long as one of a name that nobody has: the difference would reveal names."""

from collections.abc import Sequence
from time import perf_counter

import httpx

from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.support.platform import Platform

PEOPLE, TRIES = 8, 6
"""People, and wrong logins of each: fewer than are counted as guessing."""
PASSWORD = "several words for the bench"
GOAL = 1.05


async def login(settings: Settings) -> Sequence[Figure]:
    """Log in with a wrong password, by known and unknown names in turns, each time from another address."""
    known, unknown = list[float](), list[float]()
    async with Platform(settings, workers=0, trusted_proxies=("127.0.0.1/32",)) as platform:
        names = [f"person {number}" for number in range(PEOPLE)]
        for name in names:
            made = await platform.admin.post("/api/users/invitations", json={"role": "viewer"})
            wanted = {"token": made.raise_for_status().json()["token"], "name": name, "password": PASSWORD}
            (await _post(platform, "accept", wanted, name)).raise_for_status()
        for number in range(PEOPLE * TRIES):
            for name, seconds in ((names[number % PEOPLE], known), (f"nobody {number}", unknown)):
                began = perf_counter()
                answer = await _post(platform, "login", {"name": name, "password": "a guess of some words"}, f"{name} {number}")
                seconds.append(1000 * (perf_counter() - began))
                assert answer.status_code == 401, answer.text
    return [Figure("wrong login of a known name, to one of an unknown name", "ms", known, GOAL, at_least=False, baseline=unknown)]


async def _post(platform: Platform, route: str, body: dict[str, str], caller: str) -> httpx.Response:
    """Send a request from an address of the caller's own, without the platform's token."""
    address = f"10.{hash(caller) % 250}.{hash(caller) // 250 % 250}.{hash(caller) // 62_500 % 250}"
    async with httpx.AsyncClient(base_url=platform.admin.base_url, timeout=30) as http:
        return await http.post(f"/api/auth/{route}", json=body, headers={"X-Forwarded-For": address})

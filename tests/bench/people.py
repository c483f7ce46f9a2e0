"""What an authenticated request costs beyond an open one, and how soon a revocation works in another process of an app."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import httpx

from api.identity import COOKIE
from infra.runtime.settings import Settings
from tests.bench.figures import Figure
from tests.bench.pace import slower
from tests.support.platform import Platform, beside

RUNS = 3
REQUESTS = 1000
REVOCATIONS = 34
OVERHEAD_MS = 0.3
"""At REFERENCE_PACE."""
REVOKED_MS = 2000
ANSWERED_S = 20.0
READ = "/api/settings/lease_s"
PASSWORD = "several words for the bench"
QUICK: dict[str, Any] = {"password_passes": 1, "password_memory_kib": 8192, "login_attempts_per_minute": 10_000}
End = Callable[[], Awaitable[httpx.Response]]


async def people(settings: Settings) -> Sequence[Figure]:
    """Ask for a token of forms, which has a door, and for health, which is open, in turn; then end tokens and sessions."""
    async with Platform(settings, workers=0, **QUICK) as platform, beside(platform, "admin") as other, browser(platform) as person:
        made = await platform.admin.post("/api/users/invitations", json={"role": "operator"})
        accepted = {"token": made.raise_for_status().json()["token"], "name": "bench", "password": PASSWORD}
        (await person.post("/api/auth/accept", json=accepted)).raise_for_status()
        overheads, paces = list[float](), list[float]()
        for _ in range(RUNS):
            overheads.append(await overhead_ms(platform.port_of("admin"), person.cookies[COOKIE]))
            paces.append(OVERHEAD_MS * slower())
        waits = {
            what: sorted([await end(person, other) for _ in range(REVOCATIONS)])
            for what, end in (("revoked token", token_refused_ms), ("ended session", session_refused_ms))
        }
    return [
        Figure("authenticated request beyond an open one, p50, at this pace", "ms", overheads, 1, at_least=False, baseline=paces),
        *(
            Figure(f"{what} refused in another admin app, p99", "ms", [found[len(found) * 99 // 100]], REVOKED_MS, at_least=False)
            for what, found in waits.items()
        ),
    ]


@asynccontextmanager
async def browser(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser at the admin app."""
    async with httpx.AsyncClient(base_url=platform.admin.base_url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=30) as http:
        yield http


async def overhead_ms(port: int, secret: str) -> float:
    """Return the difference of the medians of two routes, asked in turn over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def asked(path: str, *lines: str) -> float:
        head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *lines))
        begun = perf_counter()
        writer.write(f"{head}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        took = 1000 * (perf_counter() - begun)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return took

    pairs = [(await asked("/health"), await asked("/api/auth/csrf-token", f"Cookie: {COOKIE}={secret}")) for _ in range(REQUESTS)]
    writer.close()
    opened, authenticated = (sorted(times)[REQUESTS // 2] for times in zip(*pairs, strict=True))
    return float(authenticated - opened)


async def token_refused_ms(person: httpx.AsyncClient, app: httpx.AsyncClient) -> float:
    """Return the milliseconds from the revocation of a token until an app refuses it."""
    made = (await person.post("/api/tokens", json={"name": "bench", "rights": ["read"]})).raise_for_status().json()
    return await refused_ms(
        app, {"Authorization": f"Bearer {made['token']}"}, lambda: person.post(f"/api/tokens/{made['token_id']}/revoke")
    )


async def session_refused_ms(person: httpx.AsyncClient, app: httpx.AsyncClient) -> float:
    """Return the milliseconds from the end of a session until an app refuses it."""
    async with httpx.AsyncClient(base_url=person.base_url, headers=person.headers, timeout=30) as second:
        (await second.post("/api/auth/login", json={"name": "bench", "password": PASSWORD})).raise_for_status()
        secret = second.cookies[COOKIE]
        return await refused_ms(app, {"Cookie": f"{COOKIE}={secret}"}, lambda: second.post("/api/auth/logout"))


async def refused_ms(app: httpx.AsyncClient, headers: dict[str, str], end: End) -> float:
    """Return the milliseconds from the end of a secret until an app refuses it."""
    async with httpx.AsyncClient(base_url=app.base_url, headers=headers) as http:
        await until_answered(http, 200)  # this process may not have read yet that it begins
        begun = perf_counter()
        (await end()).raise_for_status()
        await until_answered(http, 401)
        return 1000 * (perf_counter() - begun)


async def until_answered(http: httpx.AsyncClient, status: int) -> None:
    """Ask until the answer has a status. Raises AssertionError when it has not after `ANSWERED_S`."""
    begun = perf_counter()
    while (answer := await http.get(READ)).status_code != status:
        assert perf_counter() - begun < ANSWERED_S, f"{answer.status_code} instead of {status}: {answer.text[:300]}"

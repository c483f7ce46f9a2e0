"""Secret cookies: no script reads them, and over TLS no other host and no plain connection sets or reads them."""

import hashlib
from datetime import timedelta

from fastapi import Request, Response


def name_of(request: Request, cookie: str) -> str:
    """Return the name of a cookie on this connection."""
    return f"__Host-{cookie}" if _is_secure(request) else cookie


def secret_of(request: Request, cookie: str) -> str | None:
    """Return the secret in a cookie; None when the browser sends none."""
    return request.cookies.get(name_of(request, cookie)) or None


def give(request: Request, response: Response, cookie: str, secret: str, life: timedelta) -> None:
    """Give the browser a cookie."""
    response.set_cookie(
        name_of(request, cookie),
        secret,
        max_age=int(life.total_seconds()),
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def take(request: Request, response: Response, cookie: str) -> None:
    """Take a cookie from the browser."""
    response.delete_cookie(name_of(request, cookie), path="/", secure=_is_secure(request), httponly=True)


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 by which a random secret is kept: of a cookie, a link or a token."""
    return hashlib.sha256(secret.encode()).digest()


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"

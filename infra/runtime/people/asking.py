"""Requests to providers of logins: short, small, and without redirects, which could lead anywhere."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from producers.openid import ProviderUnavailable

TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 2**20


class Asking:
    """One client for all providers; `producers.openid.may_ask` has checked each URL."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, Any]:
        """Return the status and the JSON value of the answer. Raises ProviderUnavailable."""
        try:
            async with self._client.stream(method, url, headers=headers, content=body) as answer:
                read = bytearray()
                async for piece in answer.aiter_bytes():
                    read += piece
                    if len(read) > ANSWER_MAX_BYTES:
                        raise ProviderUnavailable("the provider of this login answers with more than 1 MiB")
                return answer.status_code, json.loads(bytes(read))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
            raise ProviderUnavailable from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

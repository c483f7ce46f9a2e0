"""Client of the admin HTTP API for the command line; works from any machine with KINOLOG_ADMIN_URL and a token."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from events.errors import Conflict, InvalidRequest, KinologError, NotFound
from infra.commands.support.exits import Away, Refused, UsageFault

if TYPE_CHECKING:
    import httpx

    from infra.runtime.settings import Settings

TIMEOUT_S = 30.0
JOIN_S = 900.0
"""Maximum time of an answer that joins an upload's parts: a store takes about a second per GB."""


class AdminApi:
    """Calls of the admin app. Every method raises Away, Refused, NotFound, Conflict or InvalidRequest, with a sentence."""

    def __init__(self, http: "httpx.Client") -> None:
        self._http = http

    def get(self, path: str, **parameters: object) -> Any:
        """Return the JSON answer; parameters that are None are left out."""
        return self._call("GET", path, params=_given(parameters))

    def post(self, path: str, body: object | None = None, *, read_s: float = TIMEOUT_S) -> Any:
        """Send JSON, return the JSON answer (None when it is empty), which may take `read_s` seconds."""
        import httpx

        return self._call("POST", path, json=body, timeout=httpx.Timeout(TIMEOUT_S, read=read_s))

    def put(self, path: str, body: object, **parameters: object) -> Any:
        """Send JSON, return the JSON answer; parameters that are None are left out."""
        return self._call("PUT", path, json=body, params=_given(parameters))

    def patch(self, path: str, body: object) -> Any:
        """Send JSON as a change; return the JSON answer (None when it is empty)."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str, **parameters: object) -> Any:
        """Return the JSON answer; parameters that are None are left out."""
        return self._call("DELETE", path, params=_given(parameters))

    def pages(self, path: str, *, limit: int, **parameters: object) -> list[dict[str, Any]]:
        """Return up to `limit` items of a list that comes in pages: {"items": […], "next": cursor or null}."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(items) < limit:
            page = self.get(path, limit=min(100, limit - len(items)), cursor=cursor, **parameters)
            items += page["items"]
            cursor = page.get("next")
            if not cursor or not page["items"]:
                break
        return items[:limit]

    def _call(self, method: str, path: str, **options: Any) -> Any:
        import httpx

        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            where = str(self._http.base_url).rstrip("/")
            raise Away(
                f"the admin app does not answer at {where} ({type(error).__name__});"
                " start it with `kinolog up --detach`, or set KINOLOG_ADMIN_URL to its address"
            ) from error
        if response.is_success:
            return response.json() if response.content else None
        raise _fault(response)


def resource(*parts: str) -> str:
    """Return the path of a resource of the admin app: its noun, ids or names, a verb. Raises InvalidRequest for what is neither.

    >>> resource("pools", "a b", "pause")
    '/api/pools/a%20b/pause'

    A slash cannot be written so that every server takes it for part of a name.
    """
    for part in parts:
        if part in ("", ".", "..") or "/" in part:
            raise InvalidRequest(f"{part!r} is neither an id nor a name")
    return "/".join(("/api", *(quote(part, safe="") for part in parts)))


def _given(parameters: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _fault(response: "httpx.Response") -> KinologError:
    """Return the fault that a problem document (RFC 9457), or any other answer, describes."""
    try:
        problem = response.json()
        said = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else None
    except ValueError:
        said = None
    sentence = said if isinstance(said, str) else f"the admin app answered {response.status_code}"
    match response.status_code:
        case 401 | 403:
            return Refused(f"{sentence}; this command sends the token of KINOLOG_ADMIN_TOKEN, or else of var/tokens/admin")
        case 404:
            return NotFound(sentence)
        case 409:
            return Conflict(sentence)
        case 429 | 502 | 503 | 504:
            return Away(sentence)
        case code if 400 <= code < 500:
            return InvalidRequest(sentence)
    return KinologError(sentence)


def url_of(settings: "Settings") -> str:
    """Return the admin app's URL."""
    return (settings.admin_url or f"http://{settings.local_host}:{settings.admin_port}").rstrip("/")


def public_url_of(settings: "Settings") -> str:
    """Return the public app's URL; empty when only the admin app's is known."""
    here = "" if settings.admin_url else f"http://{settings.local_host}:{settings.public_port}"
    return (settings.public_url or here).rstrip("/")


def token_of(settings: "Settings") -> str:
    """Return the administrator's token. Raises UsageFault when it is missing, or readable by others."""
    if token := settings.admin_token.get_secret_value():
        return token
    path = settings.var_dir / "tokens" / "admin"
    try:
        _refuse_open(path)
        return path.read_text().strip()
    except OSError as error:
        raise UsageFault(
            f"no administrator's token: {path} cannot be read ({error.strerror});"
            " start the platform here with `kinolog up --detach`, or set KINOLOG_ADMIN_TOKEN"
        ) from error


def _refuse_open(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageFault(f"{path} can be read by others; repair it with: chmod 600 {path}")


@contextmanager
def connected(settings: "Settings | None" = None) -> Iterator[AdminApi]:
    """Yield the admin API with the token of these settings (the environment's when not given)."""
    import httpx

    from infra.runtime.settings import Settings

    settings = settings or Settings.from_env(os.environ)
    headers = {"Authorization": f"Bearer {token_of(settings)}", "User-Agent": "kinolog-cli"}
    with httpx.Client(base_url=url_of(settings), headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
        yield AdminApi(http)

"""Ids and names of the command line reach the resource that they name, and no other."""

from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidRequest
from infra.commands.support.admin_api import AdminApi, resource

ROOT = Path(__file__).resolve().parents[4]


def asked(path: str) -> httpx.URL:
    """Return the address that the admin app is asked for."""
    seen: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return httpx.Response(200)

    AdminApi(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://admin")).get(path)
    return seen[0]


@given(st.text(st.characters(codec="utf-8"), min_size=1) | st.text("a./?#%&;=+ ", min_size=1))
def test_a_name_is_one_part_of_the_path_or_refused(name: str) -> None:
    try:
        path = resource("pools", name, "pause")
    except InvalidRequest:
        assert "/" in name or name in (".", "..")
        return

    url = asked(path)

    assert unquote(url.raw_path.decode()).split("/") == ["", "api", "pools", name, "pause"]
    assert (url.query, url.fragment) == (b"", "")


@pytest.mark.parametrize("name", ["", ".", "..", "../workers/w", "a/timeline", "/"])
def test_what_would_name_something_else_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is neither an id nor a name"):
        resource("videos", name)


def test_no_command_makes_a_path_by_itself() -> None:
    made = [str(path) for path in sorted((ROOT / "infra").rglob("*.py")) if 'f"/api/' in path.read_text()]

    assert made == []

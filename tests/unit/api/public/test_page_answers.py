"""The viewers' pages and what stands in for them: problems for people, previews for other sites."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg_pool import PoolTimeout

from api import problems
from api.public import pages
from api.public.previews import Preview, head_of
from tests.support.apps import client, make, make_worker
from tests.support.minutes import stop_the_minute
from tests.support.telemetry import Log
from tests.support.telemetry import make as make_telemetry

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


class Read(HTMLParser):
    """What a browser finds on a page: text by element, metadata by name, and how often each element is there."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.meta: dict[str, str | None] = {}
        self.elements: dict[str, int] = {}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element."""
        self.elements[tag] = self.elements.get(tag, 0) + 1
        self._open = tag
        found = dict(attrs)
        if tag == "meta" and (name := found.get("property") or found.get("name")):
            self.meta[name] = found["content"]

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.text[self._open] = self.text.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        self._open = ""


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        *((BROWSER, True), ("text/html", True), ("TEXT/HTML;Q=0.5", True), ("text/html;q=0.9, */*;q=0.1", True)),
        *(("", False), ("*/*", False), ("text/*", False), ("application/json", False), ("text/html;q=0", False)),
        *(("application/json, text/html", False), ("text/html;q=0.5, application/json", False), ("text/html, */*", False)),
        ("application/problem+json, text/html;q=0.9", False),
    ],
)
def test_a_page_is_for_those_who_would_rather_have_one(accept: str, page: bool) -> None:
    assert pages.prefers_page(accept) is page


@given(st.text())
def test_no_accept_header_is_too_strange(accept: str) -> None:
    assert pages.prefers_page(accept) in (True, False)


@pytest.mark.parametrize("path", ["/nothing/here", "/watch", "/assets/nothing.js", "/media/nothing here", "/%00", "/" + "x" * 3000])
async def test_an_unknown_address_is_a_page_for_people_and_a_problem_for_programs(path: str) -> None:
    async with client(make("public"), token=None) as http:
        page = await http.get(path, headers={"Accept": BROWSER, "Accept-Encoding": "identity"})
        problem = await http.get(path)
    assert page.status_code == problem.status_code >= 404
    assert all("Accept" in answer.headers["vary"].split(", ") for answer in (page, problem))
    assert problem.headers["content-type"] == problems.TYPE and problem.json()["status"] == problem.status_code
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert int(page.headers["content-length"]) == len(page.content)
    assert "content-security-policy" in page.headers
    read = Read(page.text)
    assert read.elements["h1"] == 1 and read.text["title"].endswith(" · Kinolog")
    assert read.meta["robots"] == "noindex"


@pytest.mark.parametrize("app", [make("admin"), make_worker(), make_telemetry(Log())], ids=["admin", "worker", "telemetry"])
@pytest.mark.parametrize("path", ["/nothing/here", "/watch/x", "/api/videos/x", "/api/worker/jobs"])
async def test_apps_for_programs_have_no_pages(app: Any, path: str) -> None:
    async with client(app, token=None) as http:
        refused = await http.get(path, headers={"Accept": BROWSER})
    assert refused.status_code >= 400 and refused.headers["content-type"] == problems.TYPE


async def test_an_unknown_address_is_answered_in_a_sentence() -> None:
    async with client(make("public"), token=None) as http:
        assert (await http.get("/nothing")).json()["detail"] == "there is nothing at this address"
        refused = await http.post("/watch/x")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert refused.json()["detail"] == "this address takes GET or HEAD"


async def test_too_many_requests_are_a_page_too_that_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_minute(monkeypatch)
    async with client(make("public", requests_per_minute=1), token=None) as http:
        assert (await http.get("/robots.txt")).status_code == 200
        refused = await http.get("/robots.txt", headers={"Accept": BROWSER})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert 'href="/robots.txt">Try again' in refused.text
    assert "Too many requests from this address; wait a moment." in refused.text


async def test_the_page_of_a_video_goes_on_asking_while_the_database_is_away() -> None:
    class Away:
        def connection(self) -> Any:
            raise PoolTimeout

    async with client(make("public", pool=Away()), token=None) as http:
        page = await http.get("/watch/harbour", headers={"Accept": BROWSER})
    assert (page.status_code, page.headers["retry-after"]) == (503, "2")
    assert "/assets/watch.js" in page.text


async def test_browsers_and_robots_find_what_they_look_for() -> None:
    async with client(make("public"), token=None) as http:
        icon = await http.get("/favicon.ico")
        robots = await http.get("/robots.txt")
        for path in ("/", "/favicon.ico", "/robots.txt", "/assets/icon.png", "/assets/style.css"):
            assert (await http.head(path)).status_code == 200
    assert (icon.headers["content-type"], icon.content[:4]) == ("image/x-icon", b"\0\0\1\0")
    assert robots.headers["content-type"].startswith("text/plain") and robots.text.startswith("User-agent: *\n")


@given(ANYTHING)
def test_words_of_others_stay_words_on_a_page_of_a_problem(words: str) -> None:
    plain = Read(pages.problem_page(404, {"detail": "x"}, "/"))
    read = Read(pages.problem_page(404, {"detail": words}, "/"))
    assert read.elements == plain.elements
    assert words.strip()[1:] in read.text.get("p", "")


@pytest.mark.parametrize("path", ["//elsewhere.example", "javascript:alert(1)", '/"><script>', "/fine"])
def test_a_page_of_a_problem_leads_to_this_site_only(path: str) -> None:
    page = pages.problem_page(503, {"detail": "away"}, path)
    assert 'href="//elsewhere' not in page and "javascript:" not in page and "<script" not in page


@given(ANYTHING, ANYTHING)
def test_words_of_others_stay_words_in_a_preview(title: str, description: str) -> None:
    read = Read(
        head_of(Preview(title=title, description=description, address="https://k.example/watch/x", site="https://k.example"))
    )
    assert set(read.elements) <= {"link", "meta"}
    assert read.meta.get("og:title", "") == title and read.meta.get("og:description", "") == description


def test_a_preview_has_what_other_sites_show() -> None:
    shown = Preview(
        title="Holiday",
        description="",
        address="https://k.example/watch/holiday-1",
        site="https://k.example",
        picture="https://k.example/media/x/thumbnail.jpg",
        picture_width=640,
        picture_height=360,
        duration_ms=9500,
        uploaded_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    )
    meta = Read(head_of(shown)).meta
    assert meta == {
        "twitter:card": "summary_large_image",
        "og:site_name": "Kinolog",
        "og:type": "video.other",
        "og:title": "Holiday",
        "og:url": "https://k.example/watch/holiday-1",
        "og:image": "https://k.example/media/x/thumbnail.jpg",
        "og:image:width": "640",
        "og:image:height": "360",
        "video:duration": "10",
        "video:release_date": "2026-03-01T12:00:00+00:00",
    }

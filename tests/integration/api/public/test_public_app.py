"""The public app on the real platform: browse, search, manifests, media with ranges, pages; by proxy and by redirect."""

import asyncio
import hashlib
import html
import operator
import os
import re
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import m3u8
import pytest

from infra.runtime import postgres
from infra.runtime.objects import ObjectStore
from tests.support import clips
from tests.support.apps import client, make
from tests.support.platform import Platform
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
async def published(platform: Platform) -> dict[str, Any]:
    """A published video, as the public app shows it."""
    video_id = await platform.upload(clips.real_clips()["bikes"], title="Cyclists & cars", description="In a town")
    video = await platform.ended(video_id)
    assert video["status"] == "ready", video
    shown = await platform.public.get(f"/api/videos/{video['slug']}")
    found: dict[str, Any] = shown.raise_for_status().json()
    return found


@pytest.fixture(scope="session")
async def segment(platform: Platform, published: dict[str, Any]) -> str:
    """The address of a segment."""
    return await first_segment(platform, published["hls_url"])


async def status_of(platform: Platform, path: str) -> int:
    """Return the status of the public app's answer."""
    return (await platform.public.get(path)).status_code


async def first_segment(platform: Platform, hls_url: str) -> str:
    """Return the address of the first segment of a video's first rendition."""
    master = m3u8.loads((await platform.public.get(hls_url)).text)
    address = urljoin(hls_url, master.playlists[0].uri)
    media = m3u8.loads((await platform.public.get(address)).text)
    return str(urljoin(address, media.segments[0].uri))


async def test_a_published_video_is_listed_found_and_shown(platform: Platform, published: dict[str, Any]) -> None:
    for params in ({}, {"q": "town cycl"}):
        page = (await platform.public.get("/api/videos", params=params)).json()
        (found,) = [video for video in page["items"] if video["slug"] == published["slug"]]
        assert found["watch_url"] == f"/watch/{published['slug']}"
    assert (await platform.public.get("/api/videos", params={"q": "nowhere"})).json() == {"items": [], "next": None}
    assert published["status"] == "ready"
    assert published["rungs"] and published["duration_ms"] > 9000
    thumbnail = await platform.public.get(published["thumbnail_url"])
    assert thumbnail.headers["content-type"] == "image/jpeg" and thumbnail.content[:2] == b"\xff\xd8"
    progress = (await platform.public.get(f"/api/videos/{published['slug']}/progress")).json()
    assert (progress["status"], progress["progress_percent"]) == ("ready", 100)


async def test_pages_follow_each_other(platform: Platform, published: dict[str, Any]) -> None:
    second = await platform.upload(clips.real_clips()["carphone"], title="Second")
    await platform.ended(second)
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = (await platform.public.get("/api/videos", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))).json()
        found += [video["video_id"] for video in page["items"]]
        if not (cursor := page["next"]):
            break
    assert found.index(second) < found.index(published["video_id"])
    assert len(found) == len(set(found))
    for params in ({"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"q": "x" * 201}):
        assert (await platform.public.get("/api/videos", params=params)).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        *("/api/videos/no-such-video", "/api/videos/no-such-video/progress", "/videos/no-such-video/master.m3u8"),
        *("/videos/no-such-video/manifest.mpd", "/media/nothing/here.m4s", "/assets/nothing.js", "/assets/vendor/nothing.js"),
        *("/assets/package.json", "/assets/..%2f..%2fpyproject.toml", "/assets/%2e%2e/app.py", "/nothing"),
    ],
)
async def test_what_is_not_there_is_a_problem(platform: Platform, path: str) -> None:
    answer = await platform.public.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "path", ["/media/../sources/x/original", "/media/..%2fsources%2fx%2foriginal", "/media/a/../../b", "/media/a//b"]
)
async def test_media_reaches_no_other_part_of_the_store(platform: Platform, path: str) -> None:
    assert (await platform.public.get(path)).status_code in (404, 422)


async def test_manifests_have_their_types_and_may_be_read_by_any_site(platform: Platform, published: dict[str, Any]) -> None:
    hls = await platform.public.get(published["hls_url"])
    dash = await platform.public.get(published["dash_url"])
    assert hls.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert dash.headers["content-type"] == "application/dash+xml"
    for answer in (hls, dash):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "public, max-age=60"
    for url, whole in ((published["hls_url"], hls), (published["dash_url"], dash)):
        again = await platform.public.get(url, headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", whole.headers["etag"])
        there = await platform.public.head(url)
        assert (there.status_code, there.content) == (200, b"") and int(there.headers["content-length"]) > 100
    missing = await platform.public.get(published["hls_url"].replace("master", "4320p"))
    assert missing.status_code == 404


async def test_segments_are_kept_for_ever_and_asked_for_once(platform: Platform, segment: str) -> None:
    whole = await platform.public.get(segment)
    assert whole.status_code == 200
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert whole.headers["content-type"] in ("video/iso.segment", "video/mp4")
    for known in (whole.headers["etag"], "*", f'"other", {whole.headers["etag"]}'):
        again = await platform.public.get(segment, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert (await platform.public.get(segment, headers={"If-None-Match": '"other"'})).status_code == 200
    head = await platform.public.head(segment)
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-length", "etag", "content-type", "accept-ranges")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]
    part = await platform.public.head(segment, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


async def test_ranges_are_answered_as_the_standard_says(platform: Platform, segment: str) -> None:
    data = (await platform.public.get(segment)).content
    size = len(data)
    for wanted, start, stop in (
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, size),
        ("bytes=-10", size - 10, size),
        (f"bytes={size - 1}-{size + 100}", size - 1, size),
        (f"bytes=-{size + 100}", 0, size),
        ("bytes=5-5", 5, 6),
    ):
        answer = await platform.public.get(segment, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, data[start:stop]), wanted
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}", wanted
    for ignored in ("bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=²-"):
        answer = await platform.public.get(segment, headers={b"Range": ignored.encode()})
        assert (answer.status_code, answer.content) == (200, data), ignored
    for beyond in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        answer = await platform.public.get(segment, headers={"Range": beyond})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}"), beyond
    etag = (await platform.public.head(segment)).headers["etag"]
    fresh = await platform.public.get(segment, headers={"Range": "bytes=0-1", "If-Range": etag})
    stale = await platform.public.get(segment, headers={"Range": "bytes=0-1", "If-Range": '"older"'})
    assert (fresh.status_code, stale.status_code) == (206, 200)


async def test_many_viewers_at_once_get_the_same_bytes(platform: Platform, segment: str) -> None:
    digests = await asyncio.gather(*(digest(platform.public, segment) for _ in range(60)))
    assert len(set(digests)) == 1


async def digest(http: httpx.AsyncClient, path: str) -> str:
    answer = await http.get(path)
    assert answer.status_code == 200
    return hashlib.sha256(answer.content).hexdigest()


@pytest.fixture
async def redirecting(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """The app as it is with `media_delivery = redirect`."""
    pool = await postgres.open_pool(platform.settings)
    store = ObjectStore(platform.settings)
    try:
        async with client(make("public", pool=pool, store=store, media_delivery="redirect")) as http:
            yield http
    finally:
        await pool.close()


async def test_by_redirect_the_store_answers_itself(platform: Platform, segment: str, redirecting: httpx.AsyncClient) -> None:
    answer = await redirecting.get(segment)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (302, "*")
    assert answer.headers["cache-control"] == "private, max-age=30"
    headers = {"Range": "bytes=0-99", "Origin": "http://kinolog.example"}
    direct = await platform.store.get(answer.headers["location"], headers=headers)
    assert direct.status_code == 206
    assert direct.headers["access-control-allow-origin"] in ("*", "http://kinolog.example")
    assert direct.content == (await platform.public.get(segment, headers={"Range": "bytes=0-99"})).content


async def test_a_result_that_was_not_accepted_is_nobodys(platform: Platform, segment: str) -> None:
    """A worker's objects lie beside the others from the moment when it has sent them."""
    store, path = ObjectStore(platform.settings), urlsplit(segment).path
    video_id, job_id, epoch, *names = path.removeprefix("/media/").split("/")
    for other in (
        f"{video_id}/{job_id}/{int(epoch) + 1}/{'/'.join(names)}",
        f"{video_id}/{uuid.uuid4()}/{epoch}/{'/'.join(names)}",
        f"{video_id}/{names[-1]}",
        f"test/{os.urandom(4).hex()}.m4s",
    ):
        await store.put_bytes(f"videos/{other}", b"not accepted", "video/iso.segment")
        assert (await platform.public.get(f"/media/{other}")).status_code == 404
        assert (await platform.public.head(f"/media/{other}")).status_code == 404
        await store.delete([f"videos/{other}"])
    assert (await platform.public.get(path)).status_code == 200


async def test_a_file_that_the_store_lost_is_said(platform: Platform, segment: str) -> None:
    """Not the catalog's word counts, but what is there."""
    store, path = ObjectStore(platform.settings), urlsplit(segment).path
    key = "videos/" + path.removeprefix("/media/")
    whole = (await platform.public.get(path)).content
    await store.put_bytes(key, b"", "video/iso.segment")
    empty = await platform.public.get(path)
    assert (empty.status_code, empty.headers["content-length"]) == (200, "0")
    await store.delete([key])
    assert (await platform.public.get(path)).status_code == 404
    await store.put_bytes(key, whole, "video/iso.segment")
    assert (await platform.public.get(path)).content == whole


async def test_the_pages_are_there_and_load_only_what_is_ours(platform: Platform, published: dict[str, Any]) -> None:
    for path in ("/", f"/watch/{published['slug']}"):
        page = await platform.public.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "'unsafe" not in page.headers["content-security-policy"]
        for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text):
            found = await platform.public.get(asset)
            assert found.status_code == 200, asset
            assert found.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r'<(?!link rel="(?:canonical|alternate)")[^>]*(?:src|href)="(?![/#])', page.text)
        assert not re.findall(r"<script(?![^>]*src)|<style|style=|onclick=", page.text)


async def test_a_link_to_a_video_has_a_preview(platform: Platform, published: dict[str, Any]) -> None:
    base = str(platform.public.base_url).rstrip("/")
    page = (await platform.public.get(f"/watch/{published['slug']}")).text
    tags = dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)">', page))
    assert (tags["og:title"], tags["og:description"]) == ("Cyclists &amp; cars", "In a town")
    assert tags["og:url"] == f"{base}/watch/{published['slug']}"
    picture = await platform.public.get(tags["og:image"])
    assert (tags["og:image"], picture.headers["content-type"]) == (base + published["thumbnail_url"], "image/jpeg")
    ((kind, address),) = re.findall(r'<link rel="alternate" type="([^"]+)" href="([^"]+)"', page)
    found = await platform.public.get(html.unescape(address))
    assert (kind, found.headers["access-control-allow-origin"]) == ("application/json+oembed", "*")
    width, height = jpeg_size(picture.content)
    assert found.json() == {
        "version": "1.0",
        "type": "link",
        "title": "Cyclists & cars",
        "provider_name": "Kinolog",
        "provider_url": base,
        "thumbnail_url": tags["og:image"],
        "thumbnail_width": width,
        "thumbnail_height": height,
    }
    small = await platform.public.get("/oembed", params={"url": tags["og:url"], "maxwidth": width - 1})
    assert "thumbnail_url" not in small.json()
    for url in (
        f"{base}/watch/nowhere",
        f"{base}/watch/{published['slug']}/more",
        "http://[",
        "",
        "https://elsewhere.example/watch/x",
    ):
        assert (await platform.public.get("/oembed", params={"url": url})).status_code == 404, url
    assert (await platform.public.get("/oembed", params={"url": tags["og:url"], "format": "xml"})).status_code == 501
    assert published["uploaded_at"] and published["published_at"]


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height as the frame header says them."""
    at = 2
    while not 0xC0 <= data[at + 1] <= 0xC3:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")


@pytest.mark.parametrize("slug", ["no-such-video-00000000", "NoSlug", "a%00b", "%F0%9F%8E%AC", "x" * 300, "%ED%A0%80"])
async def test_the_page_of_a_missing_video_says_404(platform: Platform, slug: str) -> None:
    for accept, kind in (
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "application/problem+json"),
    ):
        answer = await platform.public.get(f"/watch/{slug}", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (404, kind)
        assert "Accept" in answer.headers["vary"].split(", ")


async def test_an_archived_video_has_no_page_until_it_is_restored(platform: Platform) -> None:
    video = await platform.ended(await platform.upload(clips.real_clips()["carphone"], title="Put away"))
    paths = [f"/watch/{video['slug']}", f"/api/videos/{video['slug']}", video["hls_url"], video["dash_url"]]
    shown = (await platform.public.get(paths[1])).raise_for_status().json()
    files = [shown["thumbnail_url"], await first_segment(platform, shown["hls_url"])]
    assert [(await platform.public.get(path)).status_code for path in files] == [200, 200]
    for asked, status, title in (
        ("archive", 404, "There is nothing at this address · Kinolog"),
        ("restore", 200, "Put away · Kinolog"),
    ):
        answer = await platform.admin.post(f"/api/videos/{video['video_id']}/{asked}")
        await platform.read(f"/api/videos/{video['video_id']}", answer.raise_for_status().headers["X-Log-Position"])
        assert [(await platform.public.get(path)).status_code for path in paths] == [status] * 4
        for path in files:  # known addresses of media, too, a moment later
            await eventually(partial(status_of, platform, path), partial(operator.eq, status))
        page = await platform.public.get(paths[0], headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert f"<title>{title}</title>" in page.text
        listed = (await platform.public.get("/api/videos", params={"q": "Put away"})).json()["items"]
        assert bool(listed) is (status == 200)

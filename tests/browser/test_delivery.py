"""Media from the store itself: the page of the public app plays by signed redirects, in real Chromium, under its own policy."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import async_playwright

from tests.support import clips
from tests.support.platform import Platform, beside
from tests.support.waiting import eventually

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--mute-audio"),
]


@pytest.fixture
async def redirecting(platform: Platform) -> AsyncIterator[str]:
    """The address of another public app of the same platform, with `media_delivery = redirect`."""
    async with beside(platform, "public", media_delivery="redirect") as http:
        yield str(http.base_url)


async def test_a_video_plays_by_redirect(platform: Platform, redirecting: str) -> None:
    video = await platform.ended(await platform.upload(clips.real_clips()["bikes"], title="By redirect"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS, timeout=90_000)
        page = await browser.new_page()
        refused: list[str] = []
        origins: set[str] = set()
        page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("response", lambda answer: origins.add(answer.url.split("/")[2]) if answer.ok else None)
        await page.goto(f"{redirecting}{video['watch_url']}")
        await eventually(lambda: page.evaluate("document.querySelector('video')?.readyState >= 2"))
        await page.evaluate("document.querySelector('video').play()")
        await eventually(lambda: page.evaluate("document.querySelector('video').currentTime > 1"))
        await browser.close()
    assert refused == []
    assert platform.settings.s3_endpoint.split("/")[2] in origins

"""A person's view: the pages in real Chromium, against the real platform."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support import clips
from tests.support.platform import Platform

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--mute-audio"),
]
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, headless."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A page that fails the test when its console reports an error."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    opened = await context.new_page()
    faults: list[str] = []
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    await context.close()
    assert not [fault for fault in faults if "404" not in fault], faults


async def eventually(page: Page, condition: str, timeout_s: float) -> None:
    """Wait until a JavaScript expression is true; Playwright's own wait needs `eval`, which our pages forbid."""
    async with asyncio.timeout(timeout_s):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.05)


async def test_the_library_shows_and_finds_videos(platform: Platform, page: Page) -> None:
    first = await platform.upload(clips.real_clips()["bikes"], title="Bikes in the city")
    second = await platform.upload(clips.real_clips()["carphone"], title="A man in a car")
    await platform.ended(first)
    await platform.ended(second)
    await page.goto(f"{platform.public.base_url}/")
    await expect(page.get_by_role("heading", name="Bikes in the city").first).to_be_visible()
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.wait_for_load_state("networkidle")
    await page.screenshot(path=SHOTS / "library.png")
    await page.get_by_label("Search videos").fill("man car")
    await expect(page.get_by_role("heading", name="Bikes in the city")).to_have_count(0)
    await expect(page.get_by_role("heading", name="A man in a car").first).to_be_visible()
    await page.get_by_label("Search videos").fill("nothing like this")
    await expect(page.get_by_role("status")).to_contain_text("Nothing was found")


async def test_a_video_plays(platform: Platform, page: Page) -> None:
    video_id = await platform.upload(clips.real_clips()["bigbuckbunny"], title="Big Buck Bunny")
    video = await platform.ended(video_id, 90)
    await page.goto(f"{platform.public.base_url}{video['watch_url']}")
    await expect(page.get_by_role("heading", name="Big Buck Bunny")).to_be_visible()
    await eventually(page, "document.getElementById('player').readyState >= 2", 30)
    await page.evaluate("document.getElementById('player').play()")
    await eventually(page, "document.getElementById('player').currentTime > 1", 30)
    assert await page.evaluate("document.getElementById('player').videoWidth") > 0
    await expect(page.get_by_label("Quality")).to_contain_text("720p")
    await page.screenshot(path=SHOTS / "watch.png")


async def test_a_failed_video_says_why(platform: Platform, page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 50)
    video = await platform.ended(await platform.upload(text))
    await page.goto(f"{platform.public.base_url}{video['watch_url']}")
    await expect(page.get_by_role("alert")).to_contain_text("not a video")
    await page.screenshot(path=SHOTS / "failed.png")


async def test_progress_turns_into_playing(platform: Platform, page: Page) -> None:
    video_id = await platform.upload(clips.real_clips()["bigbuckbunny"], title="In the making")
    video = await platform.until(video_id, lambda video: video.get("slug", "").startswith("in-the"))
    await page.goto(f"{platform.public.base_url}{video['watch_url']}")
    await expect(page.get_by_label("Whole video")).to_be_visible()
    await page.screenshot(path=SHOTS / "progress.png")
    await eventually(page, "document.getElementById('player').readyState >= 2", 60)

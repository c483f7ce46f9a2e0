"""A person's view: the pages in real Chromium, against the real platform."""

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.browser.viewing import assert_plays, open_page
from tests.support import clips
from tests.support.platform import Platform

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


async def test_the_library_shows_and_finds_videos(platform: Platform, browser: Browser) -> None:
    first = await platform.upload(clips.real_clips()["bikes"], title="Bikes in the city")
    second = await platform.upload(clips.real_clips()["carphone"], title="A man in a car")
    await platform.ended(first)
    await platform.ended(second)
    async with open_page(browser, f"{platform.public.base_url}/", color_scheme="dark") as page:
        bikes = page.get_by_role("link", name="Bikes in the city").first
        await expect(bikes.locator("img")).not_to_have_js_property("naturalWidth", 0)
        await page.screenshot(path=SHOTS / "library.png")
        await page.get_by_label("Search videos").fill("man car")
        await expect(page.get_by_role("link", name="Bikes in the city")).to_have_count(0)
        await expect(page.get_by_role("link", name="A man in a car").first).to_be_visible()
        await page.get_by_label("Search videos").fill("nothing like this")
        await expect(page.get_by_role("status")).to_contain_text("Nothing was found")


async def test_a_video_plays(platform: Platform, browser: Browser) -> None:
    video_id = await platform.upload(clips.real_clips()["bigbuckbunny"], title="Big Buck Bunny")
    video = await platform.ended(video_id, 90)
    async with open_page(browser, f"{platform.public.base_url}{video['watch_url']}", color_scheme="dark") as page:
        await expect(page.get_by_role("heading", name="Big Buck Bunny")).to_be_visible()
        await assert_plays(page)
        await page.get_by_role("button", name="Quality: Automatic").click()
        await expect(page.get_by_role("menuitemradio", name="720p", exact=False).last).to_be_visible()
        await page.screenshot(path=SHOTS / "watch.png")


async def test_a_failed_video_says_why(platform: Platform, browser: Browser, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 50)
    video = await platform.ended(await platform.upload(text))
    async with open_page(browser, f"{platform.public.base_url}{video['watch_url']}", color_scheme="dark") as page:
        await expect(page.get_by_role("alert")).to_contain_text("not a video")
        await page.screenshot(path=SHOTS / "failed.png")


async def test_progress_turns_into_playing(platform: Platform, browser: Browser) -> None:
    video_id = await platform.upload(clips.real_clips()["bigbuckbunny"], title="In the making")
    video = await platform.until(video_id, lambda video: video.get("slug", "").startswith("in-the"))
    async with open_page(browser, f"{platform.public.base_url}{video['watch_url']}", color_scheme="dark") as page:
        await expect(page.get_by_label("Whole video")).to_be_visible()
        await page.screenshot(path=SHOTS / "progress.png")
        await assert_plays(page, timeout_s=60)

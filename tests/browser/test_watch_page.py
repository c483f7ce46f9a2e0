"""The page of one video alone: real media made by ffmpeg, canned answers."""

from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.browser.stand_in import StandIn, progress, video
from tests.browser.viewing import assert_plays, open_page, played

SHOWN = """([words, height]) => document.querySelector("#text").textContent.trim() === words
  && document.querySelector("#player").videoHeight === height"""


async def test_a_video_plays_to_its_end_and_again(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk", description="Boats & gulls.\nFilmed in May."))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await expect(page).to_have_title("Harbour at dusk · Kinolog")
        await expect(page.get_by_role("heading", name="Harbour at dusk")).to_be_visible()
        await expect(page.locator("#description")).to_have_text("Boats & gulls.\nFilmed in May.")
        await expect(page.locator("#facts")).to_contain_text("360p")
        await page.locator("#start").click()
        await assert_plays(page)
        await page.keyboard.press("9")
        assert await played(page, 6) > 5.5
        await page.get_by_role("button", name="Play again").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()


async def test_quality_sound_and_captions_are_chosen_from_menus(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await assert_plays(page, seconds=0.3)
        await page.keyboard.press("k")
        await page.get_by_role("button", name="Quality: Automatic").click()
        await page.get_by_role("menuitemradio", name="240p").click()
        await expect(page.get_by_role("button", name="Quality: 240p")).to_be_focused()
        await page.get_by_role("button", name="Sound track: English").click()
        await page.get_by_role("menuitemradio", name="Deutsch").click()
        await expect(page.get_by_role("button", name="Sound track: Deutsch")).to_be_visible()
        await page.get_by_role("button", name="Captions: Off").click()
        await page.get_by_role("menuitemradio", name="English").click()
        await page.keyboard.press("0")
        await assert_plays(page, seconds=0.3)
        words = "A test picture, and a steady tone."
        await page.wait_for_function(SHOWN, arg=[words, 240])  # in the page: whoever looks from outside may look after the end
        await page.keyboard.press("c")
        await expect(page.locator("#text")).to_be_empty()


async def test_captions_once_chosen_are_there_next_time(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await expect(page.get_by_role("button", name="Captions: Off")).to_be_visible()
        await page.keyboard.press("c")
        await page.reload()
        await expect(page.get_by_role("button", name="Captions: English")).to_be_visible()


async def test_mute_and_volume_are_kept_apart(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await expect(page.get_by_role("button", name="Quality: Automatic")).to_be_visible()
        await page.locator(".volume").hover()
        await page.locator("#volume").fill("0.4")
        await page.keyboard.press("m")
        await expect(page.get_by_role("button", name="Unmute")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("button", name="Unmute")).to_be_visible()
        player = page.locator("#player")
        await expect(player).to_have_js_property("volume", 0.4)
        await page.keyboard.press("m")
        await expect(page.get_by_role("button", name="Mute", exact=True)).to_be_visible()
        await expect(page.locator("#volume")).to_have_value("0.4")


async def test_the_day_of_the_upload_is_shown_in_the_language_of_the_page(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour", locale="de-DE", timezone_id="UTC") as page:
        await expect(page.locator("#facts")).to_contain_text("Uploaded March 1, 2026")
        await expect(page.locator("#facts time")).to_have_attribute("datetime", "2026-03-01T12:00:00Z")


async def at(page: Page, seconds: float) -> None:
    """Wait until the player is there: parts of a duration, which grows by part of a frame once the sound is there."""
    await page.wait_for_function("seconds => Math.abs(document.querySelector('#player').currentTime - seconds) < 0.1", arg=seconds)


async def test_everything_is_done_by_keyboard(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        player = page.locator("#player")
        await expect(page.get_by_role("button", name="Quality: Automatic")).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the player")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press(" ")
        await expect(player).to_have_js_property("paused", False)
        await page.keyboard.press("k")
        await expect(player).to_have_js_property("paused", True)
        await page.keyboard.press("5")
        await at(page, 3)
        await page.keyboard.press("ArrowLeft")
        await expect(player).to_have_js_property("currentTime", 0)
        await page.keyboard.press("m")
        await expect(page.get_by_role("button", name="Unmute")).to_be_visible()
        await page.keyboard.press("ArrowDown")
        await expect(player).to_have_js_property("volume", 0.95)
        await page.keyboard.press("f")
        await expect(page.get_by_role("button", name="Leave full screen")).to_be_visible()
        await page.keyboard.press("f")
        await expect(page.get_by_role("button", name="Full screen", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Speed").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("menuitemradio", name="Normal")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(player).to_have_js_property("playbackRate", 1.25)
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Speed: 1.25×")).to_be_focused()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


async def test_keys_typed_into_the_search_box_are_words(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await expect(page.get_by_role("button", name="Quality: Automatic")).to_be_visible()
        await page.get_by_label("Search videos").press_sequentially("milk 5")
        await expect(page.locator("#player")).to_have_js_property("paused", True)
        await expect(page.locator("#player")).to_have_js_property("muted", False)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{stand_in.base_url}/?q=milk+5")
        await expect(page.get_by_label("Search videos")).to_have_value("milk 5")


async def test_progress_is_shown_and_turns_into_playing_while_the_rest_is_made(browser: Browser, stand_in: StandIn) -> None:
    making = {"status": "processing", "hls_url": None, "duration_ms": None}
    stand_in.add(video("harbour", "Harbour at dusk", **making))
    stand_in.progress["harbour"] = progress(0, "waiting")
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        panel = page.get_by_role("region", name="Progress")
        await expect(panel).to_contain_text("Waiting for a worker")
        stand_in.progress["harbour"] = progress(20, last_error="the worker went away", attempt=2)
        await expect(panel.get_by_label("Whole video")).to_have_js_property("value", 20)
        await expect(panel.get_by_label("360p")).to_have_js_property("value", 32)
        await expect(panel).to_contain_text("Attempt 2 of 3. Before: the worker went away")
        stand_in.segments = 2  # it begins by itself: enough for who looks late
        stand_in.add(video("harbour", "Harbour at dusk", status="processing"))
        await assert_plays(page)
        await expect(page.locator("#below").get_by_role("region", name="Progress")).to_be_visible()
        await expect(page.locator("#hint")).to_contain_text("The next part is being made")
        stand_in.segments = None
        stand_in.add(video("harbour", "Harbour at dusk"))
        await expect(panel).to_be_hidden()
        assert await played(page, 6) > 5.5


async def test_sound_that_came_later_is_taken_in(browser: Browser, stand_in: StandIn, media: Path, tmp_path: Path) -> None:
    for path in media.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    whole = (tmp_path / "master.m3u8").read_text()
    (tmp_path / "master.m3u8").unlink()
    (tmp_path / "master.m3u8").write_text("".join(line for line in whole.splitlines(keepends=True) if "Deutsch" not in line))
    stand_in.media = tmp_path
    stand_in.segments = 2
    stand_in.add(video("harbour", "Harbour at dusk", status="processing"))
    stand_in.progress["harbour"] = progress(60)
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await assert_plays(page)
        await expect(page.get_by_role("button", name="Sound track")).to_be_hidden()
        (tmp_path / "master.m3u8").write_text(whole)
        stand_in.segments = None
        stand_in.add(video("harbour", "Harbour at dusk"))
        await expect(page.get_by_role("button", name="Sound track: English")).to_be_visible()
        assert await played(page, 6) > 5.5


async def test_sound_without_pictures_plays(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("song", "A song", rungs=[], hls_url="/videos/song/sound.m3u8"))
    async with open_page(browser, f"{stand_in.base_url}/watch/song") as page:
        await page.locator("#start").click()
        assert await played(page, 1) >= 1
        await expect(page.get_by_role("button", name="Quality")).to_be_hidden()


async def test_a_failed_video_says_why(browser: Browser, stand_in: StandIn) -> None:
    failure = {"code": "not_media", "message": "This file is not a video: it begins like plain text."}
    stand_in.add(video("notes", "notes.mp4", status="failed", hls_url=None, duration_ms=None, rungs=[], failure=failure))
    async with open_page(browser, f"{stand_in.base_url}/watch/notes") as page:
        await expect(page.get_by_role("alert")).to_contain_text(failure["message"])
        await expect(page.get_by_role("alert")).to_contain_text("not_media")
        await expect(page.locator("#controls")).to_be_hidden()
        await page.get_by_role("link", name="Back to the library").click()
        await expect(page).to_have_url(f"{stand_in.base_url}/")


async def test_a_video_that_fails_while_it_is_watched_stops_with_the_reason(browser: Browser, stand_in: StandIn) -> None:
    stand_in.segments = 1
    stand_in.add(video("harbour", "Harbour at dusk", status="processing"))
    stand_in.progress["harbour"] = progress(30)
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour") as page:
        await assert_plays(page, seconds=0.5)
        failure = {"code": "corrupt", "message": "The file ends in the middle of a picture."}
        stand_in.add(video("harbour", "Harbour at dusk", status="failed", hls_url=None, failure=failure))
        await expect(page.get_by_role("alert")).to_contain_text(failure["message"])
        await expect(page.locator("#player")).to_be_hidden()
        await expect(page.get_by_role("region", name="Progress")).to_be_hidden()


async def test_an_unknown_address_says_so(browser: Browser, stand_in: StandIn) -> None:
    async with open_page(browser, f"{stand_in.base_url}/watch/nowhere", expected=["404"]) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing at this address")
        await expect(page.locator("main")).to_contain_text("There is no video nowhere.")
        await page.get_by_role("link", name="Back to the library").click()
        await expect(page).to_have_url(f"{stand_in.base_url}/")


async def test_a_server_that_is_away_is_asked_again(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    stand_in.broken = True
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour", expected=["503"]) as page:
        await expect(page.get_by_text("The server cannot be reached; trying again")).to_be_visible()
        stand_in.broken = False
        await assert_plays(page, seconds=0.3)


async def test_the_player_fits_a_phone(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk" * 8))
    phone: dict[str, Any] = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
    async with open_page(browser, f"{stand_in.base_url}/watch/harbour", **phone) as page:
        await page.locator("#start").tap()
        await assert_plays(page, seconds=0.3)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
        box = await page.get_by_role("button", name="Full screen").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 320

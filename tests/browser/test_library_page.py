"""The library page alone, over canned answers."""

import asyncio
import time

from playwright.async_api import Browser, expect

from tests.browser.stand_in import StandIn, video
from tests.browser.viewing import open_page


async def test_videos_are_shown_with_title_picture_length_and_best_rung(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk", duration_ms=3_723_000, thumbnail_url="/videos/harbour/picture0.jpg"))
    async with open_page(browser, stand_in.base_url) as page:
        card = page.get_by_role("link", name="Harbour at dusk")
        await expect(card).to_contain_text("1:02:03")
        await expect(card).to_contain_text("360p")
        await expect(card).to_have_attribute("href", "/watch/harbour")
        await expect(card.locator("img")).to_have_js_property("naturalWidth", 640)
        await expect(page.get_by_role("status")).to_have_text("1 video")


async def test_a_missing_picture_leaves_a_drawing(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("lost", "Lost picture", thumbnail_url="/videos/lost/nowhere.jpg"))
    async with open_page(browser, stand_in.base_url, expected=["404"]) as page:
        await expect(page.get_by_role("link", name="Lost picture").locator("svg")).to_be_visible()


async def test_titles_are_text_and_never_markup(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("sly", "<img src=x onerror=alert(1)> & more"))
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.get_by_role("heading", name="<img src=x onerror=alert(1)> & more")).to_be_visible()


async def test_search_asks_once_typing_ends_and_keeps_the_words_in_the_address(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"), video("garden", "A garden at noon"))
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.get_by_role("link", name="A garden at noon")).to_be_visible()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.clock.install()
        await page.clock.pause_at(time.time() + 60)
        await page.keyboard.type("harbour")
        await page.clock.run_for(199)
        assert stand_in.searches == [""]
        await page.clock.run_for(1)
        await expect(page.get_by_role("link", name="A garden at noon")).to_have_count(0)
        await expect(page.get_by_role("link", name="Harbour at dusk")).to_be_visible()
        await expect(page).to_have_url(f"{stand_in.base_url}/?q=harbour")
        assert stand_in.searches == ["", "harbour"]
        await page.reload()
        await expect(page.get_by_role("heading", name="Results for “harbour”")).to_be_visible()


async def test_an_older_answer_never_overwrites_a_newer_one(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"), video("garden", "A garden at noon"))
    stand_in.held = slow = asyncio.Event()
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.locator(".bone").first).to_be_visible()
        stand_in.held = None
        await page.get_by_label("Search videos").fill("garden")
        await expect(page.get_by_role("link", name="A garden at noon")).to_be_visible()
        slow.set()
        await page.get_by_label("Search videos").fill("harbour")
        await expect(page.get_by_role("link", name="Harbour at dusk")).to_be_visible()
        await expect(page.locator(".card")).to_have_count(1)


async def test_scrolling_brings_every_page_once(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(*(video(f"clip-{n}", f"Clip {n}") for n in range(60)))
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.locator(".card")).to_have_count(24)
        await page.keyboard.press("End")
        await expect(page.locator(".card")).to_have_count(48)
        await page.locator(".card").last.scroll_into_view_if_needed()
        await expect(page.locator(".card")).to_have_count(60)
        await expect(page.get_by_role("button", name="More videos")).to_be_hidden()
        addresses = await page.locator(".card").evaluate_all("cards => cards.map((card) => card.getAttribute('href'))")
        assert addresses == [f"/watch/clip-{n}" for n in range(60)]


async def test_an_empty_library_says_how_to_fill_it(browser: Browser, stand_in: StandIn) -> None:
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.get_by_role("heading", name="There is no video yet")).to_be_visible()
        await expect(page.locator("#notice")).to_contain_text("kinolog ingest FILE")


async def test_an_error_is_shown_in_its_own_words_and_can_be_tried_again(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    stand_in.broken = True
    async with open_page(browser, stand_in.base_url, expected=["503"]) as page:
        await expect(page.locator("#notice")).to_contain_text("the database is away for a moment")
        stand_in.broken = False
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("link", name="Harbour at dusk")).to_be_visible()
        await expect(page.locator("#notice")).to_be_hidden()


async def test_the_keyboard_reaches_the_videos_by_the_first_link(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.get_by_role("link", name="Harbour at dusk")).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the videos")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Harbour at dusk")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{stand_in.base_url}/watch/harbour")


async def test_nothing_is_wider_than_a_phone(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("long", "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 3))
    async with open_page(browser, stand_in.base_url, viewport={"width": 320, "height": 640}) as page:
        await expect(page.locator(".card")).to_have_count(1)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320


async def test_the_way_back_leads_to_the_same_words_and_the_same_position(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(*(video(f"clip-{n}", f"Clip {n}") for n in range(80)))
    async with open_page(browser, f"{stand_in.base_url}/?q=clip") as page:
        await expect(page.locator(".card")).to_have_count(24)
        for count in (48, 72):
            await page.locator(".card").last.scroll_into_view_if_needed()
            await expect(page.locator(".card")).to_have_count(count)
        card = page.get_by_role("link", name="Clip 60", exact=False)
        await card.scroll_into_view_if_needed()
        scrolled = await page.evaluate("scrollY")
        assert scrolled > 1000
        await card.click()
        await expect(page.get_by_role("heading", name="Clip 60")).to_be_visible()
        await page.go_back()
        await expect(card).to_be_in_viewport()
        await expect(page.get_by_label("Search videos")).to_have_value("clip")
        assert abs(await page.evaluate("scrollY") - scrolled) < 2
        await page.locator(".card").last.scroll_into_view_if_needed()
        await expect(page.locator(".card")).to_have_count(80)


async def test_back_and_forward_go_through_searches(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(*(video(f"clip-{n}", f"Clip {n}") for n in range(30)), video("harbour", "Harbour at dusk"))
    async with open_page(browser, stand_in.base_url) as page:
        await page.locator(".card").last.scroll_into_view_if_needed()
        await expect(page.locator(".card")).to_have_count(31)
        await page.get_by_label("Search videos").fill("har")
        await expect(page.locator(".card")).to_have_count(1)
        await page.get_by_label("Search videos").fill("harbour")
        await expect(page).to_have_title("harbour · Kinolog")
        await page.go_back()
        await expect(page.locator(".card")).to_have_count(31)
        await expect(page.get_by_label("Search videos")).to_have_value("")
        await expect(page).to_have_title("Kinolog")
        await page.go_forward()
        await expect(page.get_by_label("Search videos")).to_have_value("harbour")
        await expect(page.locator(".card")).to_have_count(1)


async def test_without_scripts_a_page_says_what_is_missing(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("harbour", "Harbour at dusk"))
    async with open_page(browser, stand_in.base_url, java_script_enabled=False) as page:
        await expect(page.locator("noscript p")).to_be_visible()
        await page.goto(f"{stand_in.base_url}/watch/harbour")
        await expect(page.locator("noscript p")).to_be_visible()
        await expect(page.get_by_role("heading", name="Harbour at dusk")).to_be_visible()
        await expect(page.locator("#spinner")).to_be_hidden()


async def test_words_are_written_in_their_own_direction(browser: Browser, stand_in: StandIn) -> None:
    stand_in.add(video("sea", "סרט על הים", description="הים\nand the harbour"))
    async with open_page(browser, stand_in.base_url) as page:
        await expect(page.locator(".card h2")).to_have_css("direction", "rtl")
        await page.locator(".card").click()
        await expect(page.locator("#title")).to_have_css("direction", "rtl")
        await expect(page.locator("#description")).to_have_css("direction", "rtl")
        await expect(page.locator("#facts")).to_have_css("direction", "ltr")

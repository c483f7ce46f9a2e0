"""Every page in every state: as wide as its window, free of what axe finds, with a title, one heading and a language."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.stand_in import StandIn, progress, video
from tests.browser.viewing import open_page
from tests.support.tools import AXE

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
WIDTHS = (320, 390, 768, 1440)
LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 6
TITLES = {
    "plain": "Harbour at dusk",
    "rtl": "שלום עולם: סרט על הים, 2026",
    "emoji": "🌊🚢🌅👩‍👩‍👧‍👦 Holidays 🏖️",
    "unbroken": LONG[:300],
    "markup": "<img src=x onerror=alert(1)> &amp; <b>bold</b>",
}
FAILURE = {"code": "not_media", "message": "This file is not a video: it begins like plain text."}
MAKING: dict[str, Any] = {"status": "processing", "hls_url": None, "duration_ms": None, "published_at": None}
AXE_RUN = "axe.run(document, { resultTypes: ['violations'], rules: { 'label-content-name-mismatch': { enabled: true } } })"


def fill(stand_in: StandIn) -> None:
    """Have a library of more than a page with titles of every kind, and one video in each state."""
    stand_in.add(*(video(f"clip-{n}", f"Clip {n}", thumbnail_url=f"/videos/clip/picture{n % 6}.jpg") for n in range(30)))
    words = f"{TITLES['rtl']}\n{LONG}\n" + "A sentence about boats, gulls and the evening light. " * 12
    stand_in.add(
        *(video(kind, title, description=words, thumbnail_url="/videos/clip/picture0.jpg") for kind, title in TITLES.items()),
        video("song", "A song", rungs=[], hls_url="/videos/song/sound.m3u8"),
        video("making", "In the making", **MAKING),
        video("failed", "notes.mp4", status="failed", hls_url=None, duration_ms=None, rungs=[], failure=FAILURE),
    )
    stand_in.progress["making"] = progress(42, last_error=f"the worker went away: {LONG[:120]}", attempt=2)


STATES: dict[str, tuple[str, str, str]] = {
    "library": ("/", "#videos .card", "Latest videos"),
    "search": ("/?q=clip", "#videos .card", "Results for “clip”"),
    "no-hit": (f"/?q={LONG[1:201]}z", "#notice h2", "Results for"),
    "watch": ("/watch/plain", "#quality button", "Harbour at dusk"),
    **{title: (f"/watch/{title}", "#quality button", TITLES[title]) for title in ("rtl", "emoji", "unbroken", "markup")},
    "sound": ("/watch/song", "#controls .time", "A song"),
    "making": ("/watch/making", "#rungs li", "In the making"),
    "failed": ("/watch/failed", "#failure h2", "notes.mp4"),
    "missing": ("/watch/nowhere", ".notice h1", "There is nothing at this address"),
    "unknown": ("/nothing/here", ".notice h1", "There is nothing at this address"),
}
"""Address, what shows that the page is there, and its heading."""


@asynccontextmanager
async def shown(browser: Browser, stand_in: StandIn, state: str, **context: Any) -> AsyncIterator[Page]:
    """Open a page in a state."""
    address, there, _ = STATES[state]
    expected = ["404"] if state in ("missing", "unknown") else []
    async with open_page(browser, stand_in.base_url + address, expected=expected, reduced_motion="reduce", **context) as page:
        await expect(page.locator(there).first).to_be_visible()
        yield page


async def faults(page: Page) -> list[str]:
    """Return what axe finds, one line each; also by its experimental rule about names that differ from what is written."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate(AXE_RUN)
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found["violations"] for node in one["nodes"]]


async def too_wide(page: Page, width: int) -> list[str]:
    """Return that a page is wider than its window, if it is."""
    wide = await page.evaluate("document.documentElement.scrollWidth")
    return [f"{wide} px wide at {width}"] if wide > width else []


async def judged(page: Page, state: str) -> list[str]:
    """Return what is wrong with a page at every width, bright and dark."""
    wrong: list[str] = []
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        wrong += await too_wide(page, width)
        scheme: Any = "dark" if width in (320, 768) else "light"
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=SHOTS / f"state-{state}-{width}-{scheme}.png")
        if width in (390, 768):
            wrong += [f"{width} {scheme}: {fault}" for fault in await faults(page)]
    return wrong


@pytest.mark.parametrize("state", STATES)
async def test_a_page_fits_its_window_and_axe_finds_nothing(browser: Browser, stand_in: StandIn, state: str) -> None:
    fill(stand_in)
    async with shown(browser, stand_in, state) as page:
        assert await judged(page, state) == []
        heading = STATES[state][2]
        assert [words.startswith(heading) for words in await page.locator("h1").all_text_contents()] == [True]
        assert (await page.title()).endswith("Kinolog")
        assert await page.locator("html").get_attribute("lang") == "en"


async def test_an_empty_library_fits_too(browser: Browser, stand_in: StandIn) -> None:
    async with open_page(browser, stand_in.base_url, reduced_motion="reduce") as page:
        await expect(page.get_by_role("heading", name="There is no video yet")).to_be_visible()
        assert await judged(page, "empty") == []
        await expect(page.locator("h1")).to_have_count(1)


CUT_OFF = """() => [...document.querySelectorAll("#controls :is(.row, .volume, .choice) > button, #now")]
  .filter((one) => one.checkVisibility()).filter((one) => {
    const box = one.getBoundingClientRect();
    return box.left < 0 || box.right > innerWidth || one.scrollWidth > one.clientWidth + 1 && one.id !== "now";
  }).map((one) => one.id || one.textContent)"""
NAME = "(one) => one.id || one.className || one.parentElement.id"


@pytest.mark.parametrize("width", [320, 360, 390, 640])
async def test_the_controls_of_a_long_video_fit(browser: Browser, stand_in: StandIn, width: int) -> None:
    """Its times and the name of its rung are as long as they become: written into the page, since the media has six seconds."""
    fill(stand_in)
    async with shown(browser, stand_in, "watch", viewport={"width": width, "height": 360 if width == 640 else 800}) as page:
        await expect(page.get_by_role("button", name="Quality: Automatic, 360p")).to_be_visible()
        await page.evaluate("""() => {
          document.getElementById("now").textContent = document.getElementById("total").textContent = "12:02:03";
          document.querySelector("#quality .face").textContent = "1080p60";
        }""")
        assert await page.evaluate(CUT_OFF) == []
        stage = await page.locator("#stage").bounding_box()
        assert stage is not None and stage["width"] == width, "it is as wide as the phone"


async def test_tab_reaches_everything_and_is_caught_nowhere(browser: Browser, stand_in: StandIn) -> None:
    fill(stand_in)
    async with shown(browser, stand_in, "watch") as page:
        await expect(page.get_by_role("button", name="Quality: Automatic, 360p")).to_be_visible()
        reachable = await page.evaluate(f"""() => [...document.querySelectorAll("a, button, input")]
          .filter((one) => one.checkVisibility({{ visibilityProperty: true }}) && one.tabIndex >= 0).map({NAME})""")
        reached = []
        for _ in reachable:
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate(f"({NAME})(document.activeElement)"))
        assert reached == reachable and len(reached) > 12
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement === document.body || document.activeElement.matches('.skip')")


async def test_what_opens_and_what_breaks_is_free_of_faults_too(browser: Browser, stand_in: StandIn) -> None:
    """A menu, the list of keys, a library that cannot be loaded, a video that plays while the rest of it is made."""
    fill(stand_in)
    async with shown(browser, stand_in, "watch", color_scheme="dark") as page:
        await page.get_by_role("button", name="Quality: Automatic, 360p").click()
        await expect(page.get_by_role("menuitemradio", name="240p")).to_be_visible()
        found = await faults(page)
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        found += await faults(page)
    stand_in.add(video("half", "Half of it is there", status="processing"))
    stand_in.progress["half"] = progress(60)
    stand_in.segments = 1
    async with open_page(browser, f"{stand_in.base_url}/watch/half", viewport={"width": 390, "height": 800}) as page:
        await expect(page.locator("#below").get_by_role("region", name="Progress")).to_be_visible()
        found += [*await faults(page), *await too_wide(page, 390)]
    stand_in.broken = True
    async with open_page(browser, stand_in.base_url, expected=["503"], viewport={"width": 320, "height": 800}) as page:
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        found += [*await faults(page), *await too_wide(page, 320)]
    assert found == []

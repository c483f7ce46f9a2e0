"""What a person does and sees, in words for tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, expect
from playwright.async_api import TimeoutError as NotThere

HERE = Path(__file__).parent
SCRIPTS = {
    "hls.js": HERE.parents[1] / "api/web/node_modules/hls.js/dist/hls.min.js",
    "Shaka": HERE / "node_modules/shaka-player/dist/shaka-player.compiled.js",
    "dash.js": HERE / "node_modules/dashjs/dist/modern/umd/dash.all.min.js",
}
LOAD = {
    "hls.js": """(address) => {
        window.hls = new Hls();
        hls.on(Hls.Events.ERROR, (_, fault) => { if (fault.fatal) window.fault = `${fault.type} ${fault.details}`; });
        hls.loadSource(address);
        hls.attachMedia(document.querySelector("#player"));
    }""",
    "Shaka": """async (address) => {
        window.shakaPlayer = new shaka.Player();
        shakaPlayer.addEventListener("error", ({ detail }) => { window.fault = `Shaka ${detail.code} ${detail.data}`; });
        await shakaPlayer.attach(document.querySelector("#player"));
        await shakaPlayer.load(address);
    }""",
    "dash.js": """(address) => {
        window.dash = dashjs.MediaPlayer().create();
        dash.on("error", ({ error }) => { window.fault = `dash.js ${error.code} ${error.message}`; });
        dash.updateSettings({ debug: { logLevel: 0 } });
        dash.initialize(document.querySelector("#player"), address, false);
    }""",
}
"""Each with its defaults: strangers set no others."""

_REACHED = """([element, seconds]) => new Promise((reached) => {
  const look = () => { if (element.currentTime >= seconds || element.ended) reached(element.currentTime); };
  element.addEventListener("timeupdate", look);
  element.addEventListener("ended", look);
  look();
})"""


@asynccontextmanager
async def open_page(browser: Browser, url: str, *, expected: Sequence[str] = (), **context: Any) -> AsyncIterator[Page]:
    """Open an address in a context of its own; `context` goes to Playwright (viewport, color_scheme, reduced_motion).

    At the end nothing may stand in the console that has none of the words in `expected`, nothing may have been asked of
    other sites, and the browser's policy may have refused nothing. Raises AssertionError.
    """
    faults: list[str] = []
    home = urlsplit(url).netloc

    def asked(address: str) -> None:
        if not address.startswith(("blob:", "data:")) and urlsplit(address).netloc != home:
            faults.append(f"asked of another site: {address}")

    opened = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
    try:
        page = await opened.new_page()
        page.set_default_timeout(40_000)
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked(request.url))
        await page.goto(url)
        yield page
    finally:
        await opened.close()
    unexpected = [fault for fault in faults if not any(words in fault for words in expected)]
    assert not unexpected, unexpected


async def assert_plays(page: Page, *, seconds: float = 1.0, timeout_s: float = 60) -> None:
    """Press play unless it plays already; assert that pictures come and time passes. `seconds` of media time."""
    player = page.locator("#player")
    await expect(player).to_be_visible(timeout=timeout_s * 1000)
    begun_s = await player.evaluate("element => element.currentTime")
    play = page.get_by_role("group", name="Player controls").get_by_role("button", name="Play", exact=True)
    async with asyncio.timeout(timeout_s):
        while await player.evaluate("element => element.paused && !element.ended"):
            with suppress(NotThere):  # it has begun by itself meanwhile
                await play.click(timeout=5_000)
    assert await played(page, begun_s + seconds, timeout_s=timeout_s) > begun_s
    assert await player.evaluate("element => element.error && element.error.message") is None
    assert await player.evaluate("element => element.videoWidth") > 0


async def played(page: Page, seconds: float, *, timeout_s: float = 60) -> float:
    """Wait until the player has come to a second, or to the end. Returns where it is."""
    player = await page.locator("#player").element_handle()
    async with asyncio.timeout(timeout_s):
        reached: float = await page.evaluate(_REACHED, [player, seconds])
    return reached


async def until(page: Page, condition: str) -> None:
    """Wait until something is so of the page's `video`, or a fault is known."""
    await page.wait_for_function(
        f"(() => {{ const video = document.querySelector('video'); return window.fault || {condition}; }})()"
    )
    assert await page.evaluate("window.fault") is None

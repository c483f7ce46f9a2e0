"""Players of other projects on what Kinolog publishes: hls.js and Shaka while it is encoded, Shaka and dash.js afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from events.media import PlanSettings
from tests.browser.viewing import LOAD, SCRIPTS, open_page, until
from tests.support.presentation import Presentation, make_presentation, served

HERE = Path(__file__).parent
SECONDS = 14
PART = ("encode-0", "audio-0", "audio-1", "encode-1", "audio-0-1", "audio-1-1", "encode-2")
"""The jobs that are done when a player comes: three chunks, and the sound in its two pieces."""


@pytest.fixture(scope="session")
async def film(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """A video of several chunks, in two languages."""
    settings = PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast")
    return await make_presentation(tmp_path_factory.mktemp("film"), settings, SECONDS)


@asynccontextmanager
async def opened(browser: Browser, player: str, root: Path, address: str) -> AsyncIterator[Page]:
    """Serve a folder and open an address in it with a player, its first pictures there; nothing may be complained of."""
    (root / "player.html").write_text((HERE / "player.html").read_text())
    with served(root) as base:
        async with open_page(browser, f"{base}/player.html") as page:
            await page.add_script_tag(path=SCRIPTS[player])
            await page.evaluate(LOAD[player], f"{base}/{address}")
            await until(page, "video.readyState >= 2")
            yield page
            assert await page.evaluate("window.fault ?? document.querySelector('video').error?.message ?? null") is None


async def begin(page: Page, *, rate: float = 4) -> float:
    """Play, faster than usual; return the second at which it began."""
    await page.evaluate(
        "rate => { const video = document.querySelector('video'); video.playbackRate = rate; return video.play(); }", rate
    )
    await until(page, "video.played.length")
    began: float = await page.evaluate("document.querySelector('video').played.start(0)")
    return began


async def seek(page: Page, second: float) -> None:
    """Go somewhere and wait for pictures there."""
    await page.evaluate("second => { document.querySelector('video').currentTime = second; }", second)
    await until(page, f"!video.seeking && video.readyState >= 3 && Math.abs(video.currentTime - {second}) < 0.5")


@pytest.mark.parametrize("player", ["hls.js", "Shaka"])
async def test_it_plays_from_its_start_while_it_is_encoded_and_on_to_its_end(
    browser: Browser, film: Presentation, tmp_path: Path, player: str
) -> None:
    folder = film.show(tmp_path, PART)
    async with opened(browser, player, tmp_path, f"{folder}/master.m3u8") as page:
        assert await begin(page) < 0.5, "not near the end of what there is so far"
        await until(page, "video.currentTime > 5")
        film.show(tmp_path)
        await until(page, f"video.ended && Math.abs(video.currentTime - {SECONDS}) < 0.2")


@pytest.mark.parametrize("player", ["hls.js", "Shaka"])
async def test_it_is_sought_in_while_it_is_encoded(browser: Browser, film: Presentation, tmp_path: Path, player: str) -> None:
    folder = film.show(tmp_path, PART)
    async with opened(browser, player, tmp_path, f"{folder}/master.m3u8") as page:
        await seek(page, 9)
        await begin(page, rate=1)
        await until(page, "video.currentTime > 9.5")
        await seek(page, 0.5)
        await until(page, "video.currentTime > 1")


@pytest.mark.parametrize(
    ("player", "manifest"),
    [("hls.js", "master.m3u8"), ("Shaka", "master.m3u8"), ("Shaka", "manifest.mpd"), ("dash.js", "manifest.mpd")],
)
async def test_what_is_published_is_sought_in_and_played_to_its_end(
    browser: Browser, film: Presentation, tmp_path: Path, player: str, manifest: str
) -> None:
    folder = film.show(tmp_path)
    async with opened(browser, player, tmp_path, f"{folder}/{manifest}") as page:
        assert await begin(page) < 0.5
        await until(page, f"Math.abs(video.duration - {SECONDS}) < 0.1")
        await seek(page, 11)
        await seek(page, 3)
        await until(page, "video.currentTime > 5 && video.getVideoPlaybackQuality().totalVideoFrames > 25")
        await seek(page, 12.5)
        await until(page, f"video.ended && Math.abs(video.currentTime - {SECONDS}) < 0.2")

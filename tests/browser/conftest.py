"""A browser, once a session, and a stand-in for the platform with media of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.stand_in import StandIn, make_media, serving

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--mute-audio"),
]

expect.set_options(timeout=40_000)  # Playwright's own five seconds are less than what a busy machine takes now and then


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, headless: it has the H.264 and AAC decoders that Playwright's own has not."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=90_000)
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CMAF made by ffmpeg: two rungs, two sound tracks, captions, pictures for the library."""
    return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture
async def stand_in(media: Path) -> AsyncIterator[StandIn]:
    """The pages as the app serves them, over canned answers that the test changes."""
    async with serving(media) as running:
        yield running

"""Our page in Chromium: the time that a stream has watched is what the clock says, and its bytes are those that were sent."""

from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from playwright.async_api import Browser

from events.media import PlanSettings
from infra.runtime.settings import Settings
from tests.browser.viewing import open_page, until
from tests.support.presentation import Presentation, make_presentation
from tests.support.theatre import Theatre, theatre
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
async def minute(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """Long enough to pause, to jump and to go on."""
    settings = PlanSettings(segment_s=2, chunk_s=10, preset="ultrafast")
    return await make_presentation(tmp_path_factory.mktemp("minute"), settings, 20)


@pytest.fixture
async def there(settings: Settings, minute: Presentation) -> AsyncIterator[Theatre]:
    """The app, and a film for everybody."""
    async with theatre(settings, minute) as found:
        await found.show_to("public")
        yield found


def session_of(there: Theatre) -> Any:
    """Return the only session."""
    (session,) = there.watched()["sessions"].values()
    return session


async def test_time_watched_is_the_clocks_and_requests_of_media_name_the_stream(browser: Browser, there: Theatre) -> None:
    async with open_page(browser, f"{there.base}/watch/{there.slug}", bypass_csp=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate("document.querySelector('video').muted = true")
        await page.locator("#start").click()
        await until(page, "!video.paused && video.currentTime > 0.2")
        begun = monotonic()
        await until(page, "video.currentTime > 4")
        await page.evaluate("document.querySelector('video').pause(); window.paused = performance.now()")
        watched = monotonic() - begun + 0.2
        await until(page, "performance.now() - window.paused > 3000")
        await page.evaluate("document.querySelector('video').currentTime = 12")
        await until(page, "!video.seeking")
        await page.evaluate("document.querySelector('video').play()")
        begun = monotonic()
        await until(page, "video.currentTime > 15")
        watched += monotonic() - begun
    session = await eventually(lambda: session_of(there), lambda session: session.end == "client")
    assert abs(session.watched_ms / 1000 - watched) <= 1, (session.watched_ms, watched)
    assert session.position_ms >= 15_000 and session.start_up_ms is not None and session.errors == 0
    media = [url for url in asked if "/media/" in url]
    assert media and f"{session.viewer_id}.{session.session_id}." in media[-1]

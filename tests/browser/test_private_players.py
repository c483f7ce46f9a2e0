"""Players of other projects, and our own page, on a private video: they pass the signed path on by themselves."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Request, Route

from events.media import PlanSettings
from infra.runtime.settings import Settings
from tests.browser.viewing import LOAD, SCRIPTS, assert_plays, open_page, played, until
from tests.support.presentation import Presentation, make_presentation
from tests.support.theatre import Theatre, theatre

BLANK = "document.body.innerHTML = '<video id=player muted></video>'"
PLAY = "() => { const video = document.querySelector('video'); video.playbackRate = 4; return video.play(); }"
STATUS = "address => fetch(address).then(answer => answer.status)"


@pytest.fixture(scope="session")
async def short(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """Two chunks, with sound."""
    settings = PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast")
    return await make_presentation(tmp_path_factory.mktemp("short"), settings, 7)


@pytest.fixture
async def there(settings: Settings, short: Presentation) -> AsyncIterator[Theatre]:
    """The app, and a film, which is private."""
    async with theatre(settings, short) as found:
        yield found


@pytest.mark.parametrize(
    ("player", "manifest"),
    [("hls.js", "master.m3u8"), ("Shaka", "master.m3u8"), ("Shaka", "manifest.mpd"), ("dash.js", "manifest.mpd")],
)
async def test_it_plays_to_its_end_with_the_cookie_and_not_without(
    browser: Browser, there: Theatre, player: str, manifest: str
) -> None:
    address = f"{there.base}/videos/{there.slug}/{manifest}"
    async with open_page(browser, f"{there.base}/robots.txt", expected=["404"], bypass_csp=True) as page:
        await page.evaluate(BLANK)
        await page.add_script_tag(path=SCRIPTS[player])
        assert await page.evaluate(STATUS, address) == 404
        ((name, value),) = there.login("greta", "operator").items()
        await page.context.add_cookies([{"name": name, "value": value, "url": there.base}])
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate(LOAD[player], address)
        await until(page, "video.readyState >= 2")
        await page.evaluate(PLAY)
        await until(page, "video.ended")
    files = [url for url in asked if "/media/" in url]
    assert len(files) > 3 and all("/media/~" in url for url in files)


async def test_our_own_page_plays_it(browser: Browser, there: Theatre) -> None:
    async with open_page(browser, f"{there.base}/robots.txt") as page:
        ((name, value),) = there.login("greta", "operator").items()
        await page.context.add_cookies([{"name": name, "value": value, "url": there.base}])
        await page.goto(f"{there.base}/watch/{there.slug}")
        await assert_plays(page)


async def test_our_own_page_goes_on_when_its_signed_path_expires(browser: Browser, there: Theatre) -> None:
    """After the third segment nothing is read by the first path: the page asks for the video again."""
    read: list[str] = []
    refused: list[str] = []
    renewed = False

    async def serve(route: Route) -> None:
        if renewed or len(read) < 3:
            read.append(route.request.url)
            await route.continue_()
        else:
            refused.append(route.request.url)
            await route.fulfill(status=403, content_type="application/problem+json", body="{}")

    def see(request: Request) -> None:
        nonlocal renewed
        renewed |= bool(refused) and "master.m3u8" in request.url

    async with open_page(browser, f"{there.base}/robots.txt", expected=["403"]) as page:
        ((name, value),) = there.login("greta", "operator").items()
        await page.context.add_cookies([{"name": name, "value": value, "url": there.base}])
        await page.route("**/*.m4s*", serve)
        page.on("request", see)
        await page.goto(f"{there.base}/watch/{there.slug}")
        await assert_plays(page)
        assert await played(page, 3600) > 6, "it ends"
    assert refused and renewed

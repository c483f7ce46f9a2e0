"""A browser shows the colours of the source, in every rung and in the thumbnail."""

import base64
import subprocess
from pathlib import Path

from playwright.async_api import Browser

from tests.support.clips import clip
from tests.support.colors import THUMBNAIL_TOLERANCE, TOLERANCE, assert_close, rungs, shown, thumbnail
from tests.support.recipes import PATCHES, in_yuv, patches
from tests.support.transcoding import transcode
from tests.support.work import ffmpeg_path

_SHOW = """async ([kind, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const element = document.createElement(kind === "video/mp4" ? "video" : "img");
  element.style.cssText = "position: fixed; inset: 0; width: 600px; height: 100px; object-fit: fill";
  element.muted = true;
  element.src = URL.createObjectURL(new Blob([bytes], { type: kind }));
  document.body.append(element);
  if (!element.play) return element.decode();
  const presented = new Promise((resolve) => element.requestVideoFrameCallback(resolve));
  await element.play();
  await presented;
  element.pause();
}"""


async def seen(browser: Browser, path: Path, kind: str, count: int) -> list[tuple[int, ...]]:
    """Return the colours in the middle of `count` patches, as they are on the screen: a canvas would be less exact."""
    page = await browser.new_page(viewport={"width": 600, "height": 100})
    try:
        await page.evaluate(_SHOW, [kind, base64.b64encode(path.read_bytes()).decode()])
        picture = path.with_suffix(".png")
        await page.screenshot(path=picture)
    finally:
        await page.close()
    return shown(picture, count)


def reference(folder: Path) -> Path:
    """Return a lossless BT.709 video of the patches: Chromium without a graphics card adds errors of its own, up to 11 in blue."""
    path = folder / "reference.mp4"
    exact = in_yuv("bt709", "tv", "yuv420p", "bt709", "bt709", "bt709")
    argv = [ffmpeg_path(), "-v", "error", *patches(), *exact, "-c:v", "libx264", "-qp", "0", str(path)]
    subprocess.run(argv, check=True)
    return path


async def test_the_browser_shows_the_colours_of_the_source(browser: Browser, tmp_path: Path) -> None:
    wanted = await seen(browser, reference(tmp_path), "video/mp4", 6)

    for name in ("untagged_hd", "untagged_sd", "full_range", "rgb"):
        video = await transcode(clip(name), tmp_path / name)
        for rung in rungs(video):
            assert_close(await seen(browser, rung, "video/mp4", 6), wanted, TOLERANCE)
        assert_close(await seen(browser, thumbnail(video), "image/jpeg", 6), list(PATCHES), THUMBNAIL_TOLERANCE)


async def test_the_browser_shows_black_for_what_is_transparent(browser: Browser, tmp_path: Path) -> None:
    video = await transcode(clip("transparent_vp9"), tmp_path)

    (hidden, _) = await seen(browser, rungs(video)[0], "video/mp4", 2)

    assert_close([hidden], [(0, 0, 0)], TOLERANCE)

"""A browser's own parser reads the subtitles of every kind as people wrote them."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from events.kinds import ExtrasResult
from tests.support.clips import clip
from tests.support.transcoding import finish, job_work, planned
from tests.support.work import DirectoryStore

_CUES = """(text) => new Promise((resolve, reject) => {
  const video = document.createElement("video");
  const track = document.createElement("track");
  track.src = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  track.default = true;
  track.addEventListener("load", () => resolve([...track.track.cues].map((cue) => ({
    text: cue.getCueAsHTML().textContent, line: cue.line, align: cue.align, voice: cue.getCueAsHTML().firstChild?.title ?? "" }))));
  track.addEventListener("error", () => reject(new Error("no WebVTT")));
  video.append(track);
  document.body.append(video);
})"""


async def texts(name: str, folder: Path, browser: Browser) -> list[dict[str, Any]]:
    """Return the cues of a clip's one subtitle track, as the browser understands them."""
    _, _, specs = await planned(clip(name), folder)
    work = job_work(folder, clip(name), "subtitles")
    result, _ = await finish(specs["subtitles"], work)
    assert isinstance(result, ExtrasResult) and isinstance(work.store, DirectoryStore)
    page = await browser.new_page()
    try:
        text = work.store.path_of(result.subtitles[0].object.key).read_text()
        cues: list[dict[str, Any]] = await page.evaluate(_CUES, text)
        return cues
    finally:
        await page.close()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "subtitles_with_marks",
            ["AT&T <3 you & me", "if a < b and b > c then a --> c", "top both italics red {text}", "\u202bשלום, עולם!\u202c"],
        ),
        ("subtitles_latin1", ["Überraschung für Jürgen: schöne Grüße aus Köln"]),
        ("subtitles_ass", ["plain & <simple>", "first\nthird after an empty line", "sign"]),
        ("subtitles_webvtt", ["Hello & welcome", "yellow <tag> & more"]),
        ("captions_track", ["Hello"]),
        ("captions_in_pictures", ["Hello"]),
    ],
)
async def test_every_text_is_shown_as_it_was_written(name: str, wanted: list[str], browser: Browser, tmp_path: Path) -> None:
    cues = await texts(name, tmp_path, browser)

    assert [cue["text"] for cue in cues] == wanted
    if name == "subtitles_webvtt":
        assert (cues[0]["voice"], cues[0]["line"], cues[0]["align"]) == ("Anna", 10, "start")

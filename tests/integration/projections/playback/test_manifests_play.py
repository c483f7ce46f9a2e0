"""Manifests over real segments, read by ffmpeg and mpv: HLS and DASH, from the public app's paths and from a bucket."""

import subprocess
from pathlib import Path

import pytest

from events.media import PlanSettings
from projections.playback import manifests
from tests.support.footage import VIDEO_ID
from tests.support.presentation import Presentation, make_presentation, served
from tests.support.work import ffmpeg_path

SECONDS = 13
SOUGHT_S = 11.5
"""In the last but one of seven segments, and in the third chunk."""


@pytest.fixture(scope="session")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """Four chunks, with two languages of sound."""
    settings = PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast")
    presentation = await make_presentation(tmp_path_factory.mktemp("made"), settings, SECONDS)
    assert presentation.plan.video is not None and len(presentation.plan.video.chunks) >= 2
    return presentation


def played(url: str, *options: str) -> dict[str, str]:
    """Decode everything that an address offers; return what ffmpeg counted. Any complaint is an error."""
    command = [ffmpeg_path(), "-v", "warning", "-xerror", *options, "-i", url, "-map", "0", "-f", "null", "-progress", "-", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [
        line for line in done.stderr.splitlines() if "Found duplicated MOOV" not in line
    ]  # it reads init.mp4 again after a seek
    assert not said and done.returncode == 0, f"{url}: {done.returncode} {said}"
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_ffmpeg_plays_every_manifest_from_app_and_store(made: Presentation, tmp_path: Path) -> None:
    page = made.show(tmp_path / "any" / "prefix")
    for key, (text, _type) in manifests.stored(*made.rows()).items():
        (made.store / key).write_text(text)
    with served(tmp_path) as app, served(made.store) as store:
        for base in (f"{app}/any/prefix/{page}", f"{store}/videos/{VIDEO_ID}"):
            for name in ("master.m3u8", "manifest.mpd"):
                counted = played(f"{base}/{name}")
                assert counted["frame"] == str(made.frames), name
                assert abs(int(counted["out_time_us"]) - SECONDS * 1_000_000) < 100_000, name


@pytest.mark.parametrize("name", ["master.m3u8", "manifest.mpd"])
def test_ffmpeg_seeks_without_reading_what_is_before(made: Presentation, tmp_path: Path, name: str) -> None:
    page, asked = made.show(tmp_path), list[str]()
    with served(tmp_path, asked) as base:
        counted = played(f"{base}/{page}/{name}", "-ss", str(SOUGHT_S))
    assert counted["frame"] == str(made.frames - round(SOUGHT_S * 25))
    assert_skipped(asked)


def test_mpv_seeks_in_dash_without_reading_what_is_before(made: Presentation, tmp_path: Path) -> None:
    """Not in HLS: libavformat 5.1, that of Debian's mpv, cannot seek in fragmented MP4 there, not in ffmpeg's own either."""
    page, asked = made.show(tmp_path), list[str]()
    with served(tmp_path, asked) as base:
        said = mpv(f"{base}/{page}/manifest.mpd", f"--start={SOUGHT_S}")
    assert "at 11.48" in said or "at 11.5" in said, said
    assert_skipped(asked)


def test_mpv_plays_hls(made: Presentation, tmp_path: Path) -> None:
    page = made.show(tmp_path)
    with served(tmp_path) as base:
        said = mpv(f"{base}/{page}/master.m3u8", "--speed=4")
    assert f"at {SECONDS - 1}." in said, said


def mpv(url: str, *options: str) -> str:
    """Play in mpv to the end, at moments that are printed; return what it says. Raises CalledProcessError."""
    command = ["mpv", "--no-config", "--vo=null", "--ao=null", "--term-status-msg=at ${=time-pos}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and "error" not in done.stdout.lower(), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def assert_skipped(asked: list[str]) -> None:
    """Assert that pictures and sound were fetched where they were sought, and before that but at the start, to know the codec."""
    for kind in ("240p", "audio-"):
        numbers = {int(path[-9:-4]) for path in asked if path.endswith(".m4s") and path.split("/")[-2].startswith(kind)}
        assert 5 in numbers and not numbers & {2, 3}, (kind, sorted(numbers))

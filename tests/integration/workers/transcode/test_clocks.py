"""Pictures and sound stay together where a source's clock jumps, and channels of every kind come out."""

import re
import subprocess
from pathlib import Path

import pytest

from events.kinds import ExtrasResult
from tests.support.clips import clip
from tests.support.inputs.broadcasts import CLOCKS
from tests.support.transcoding import SAMPLE_RATE_HZ, Video, samples, transcode, verify
from tests.support.work import ffmpeg_path

STEP_MS = 20
APART = SAMPLE_RATE_HZ // 5


def flashes_ms(path: Path, rate: int = 25) -> list[float]:
    """Return when the picture turns white."""
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-vf", "scale=1:1,format=gray", "-f", "rawvideo", "-"]
    light = subprocess.run(command, capture_output=True, check=True).stdout
    return [1000 * n / rate for n, level in enumerate(light) if level > 120 and (n == 0 or light[n - 1] <= 120)]


def beeps_ms(path: Path) -> list[float]:
    """Return when sound sets in."""
    loud = [at for at, value in enumerate(samples(path)) if abs(value) > 2500]
    return [1000 * at / SAMPLE_RATE_HZ for n, at in enumerate(loud) if n == 0 or at - loud[n - 1] > APART]


def said_ms(video: Video, word: str = "flash") -> list[list[float]]:
    """Return when each subtitle track says a word."""
    found = []
    for result in video.results.values():
        for subtitle in result.subtitles if isinstance(result, ExtrasResult) else ():
            cues = re.findall(rf"(\d\d):(\d\d):(\d\d)\.(\d\d\d) --> .*\n{word}\n", video.data(subtitle.object).decode())
            found.append([((int(h) * 60 + int(m)) * 60 + int(s)) * 1000.0 + int(ms) for h, m, s, ms in cues])
    return found


@pytest.mark.parametrize("name", CLOCKS)
async def test_flash_and_beep_stay_together_over_a_jump(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)
    await verify(video, tmp_path)

    flashes = flashes_ms(video.whole("240p"))
    beeps = beeps_ms(video.whole(video.plan.audio[0].name))

    assert len(flashes) == len(beeps) == (1 if "jumps" in name else 2)
    assert all(abs(flash - beep) <= STEP_MS for flash, beep in zip(flashes, beeps, strict=True))
    assert video.plan.duration_ms < 2200
    for said in said_ms(video):
        assert len(said) == len(flashes)
        assert all(abs(flash - cue) <= STEP_MS for flash, cue in zip(flashes, said, strict=True))
    for said in said_ms(video, "after"):
        assert len(said) == len(flashes)
        assert all(flash < cue < video.plan.duration_ms for flash, cue in zip(flashes, said, strict=True))


async def test_captions_inside_pictures_follow_them_over_a_jump(tmp_path: Path) -> None:
    ((first, second),) = said_ms(await transcode(clip("captions_joined"), tmp_path), "Hello")

    assert second - first == 1000, "the pictures are joined: 25 of 40 ms"


@pytest.mark.parametrize("name", ["ambisonic", "nine_channels", "hamasaki"])
async def test_every_layout_of_channels_is_heard_and_never_clipped(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)
    await verify(video, tmp_path)

    loudest = max(abs(value) for value in samples(video.whole(video.plan.audio[0].name)))

    assert 1000 < loudest < 32767

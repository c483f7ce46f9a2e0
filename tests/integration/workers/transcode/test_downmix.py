"""Loud sound of many channels is mixed down without clipping, and keeps its loudness."""

import subprocess
from pathlib import Path

import pytest

from tests.support.transcoding import audio_specs, ffmpeg, transcode
from tests.support.work import ffmpeg_path

CHANNELS = {"stereo": 2, "5.1": 6, "5.1(side)": 6, "7.1": 8, "22.2": 24}
SOUNDS = {"together": "sin(2*PI*440*t)", "abrupt": "sin(2*PI*440*t)*lt(mod(t,0.5),0.25)"}
"""As loud as can be, in all channels at the same time."""


def loud(path: Path, layout: str, sound: str) -> Path:
    """Make two seconds of it."""
    exprs = "|".join([sound] * CHANNELS[layout])
    source = f"aevalsrc=exprs='{exprs}':c={layout}:s=48000:d=2"
    subprocess.run([ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", source, "-c:a", "pcm_s16le", str(path)], check=True)
    return path


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("layout", CHANNELS)
async def test_no_sample_is_cut_off(layout: str, sound: str, tmp_path: Path) -> None:
    video = await transcode(loud(tmp_path / "loud.mka", layout, SOUNDS[sound]), tmp_path)
    for rendition in audio_specs(video.specs)[0].renditions:
        raw = ffmpeg("-i", str(video.whole(rendition.name)), "-map", "0:a", "-f", "f32le")
        peak = max(abs(value) for value in memoryview(raw).cast("f"))
        assert 0.5 < peak < 1.0, rendition.name

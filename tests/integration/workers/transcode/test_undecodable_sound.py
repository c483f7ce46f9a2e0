"""A sound track that cannot be decoded is silent beside what can be, in every piece, and the video says so."""

import subprocess
from pathlib import Path

import pytest

from events.kinds import AudioSpec, MediaResult
from tests.support.transcoding import SAMPLE_RATE_HZ, audio_specs, samples, transcode, verify
from tests.support.work import ffmpeg_path
from workers.attempts.work import WorkFailed

PICTURES = ("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=14")
TONE = ("-f", "lavfi", "-i", "sine=f=440:d=14")
BOTH = ("-map", "0", "-map", "1")
WARNING = "sound track 1 cannot be decoded; it is silent"


def made(path: Path, *arguments: str, damage: str = "1") -> Path:
    """Make a file; in the packets of its sound for which the expression is 1, every byte is written over."""
    noise = ("-bsf:a", f"noise=amount={damage}")
    command = [ffmpeg_path(), "-v", "error", *arguments, "-c:v", "libx264", "-preset", "ultrafast", *noise, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3", "flac"])
async def test_beside_pictures(codec: str, tmp_path: Path) -> None:
    """The last piece says so. An earlier one may find noise that passes for a packet, and is silent by itself."""
    path = made(tmp_path / "source.mkv", *PICTURES, *TONE, *BOTH, "-c:a", codec)
    video = await transcode(path, tmp_path)
    first, last = audio_specs(video.specs)
    assert (first.end_segment, last.end_segment) == (1, None)
    results = [video.results[name] for name, spec in video.specs.items() if isinstance(spec, AudioSpec)]
    warnings = [result.warnings for result in results if isinstance(result, MediaResult)]
    assert warnings[0] in ((), (WARNING,)) and warnings[1] == (WARNING,)
    heard = samples(video.whole(first.renditions[0].name))
    assert set(heard) == {0}
    assert len(heard) / SAMPLE_RATE_HZ == pytest.approx(14, abs=0.1)
    verified = await verify(video, tmp_path)
    assert verified.duration_ms == pytest.approx(14_000, abs=100)
    assert WARNING in verified.warnings


async def test_what_was_heard_before_the_damage_stays_in_its_piece(tmp_path: Path) -> None:
    """Of the whole track too little can be decoded, which its last piece alone can know."""
    path = made(tmp_path / "source.mkv", *PICTURES, *TONE, *BOTH, "-c:a", "aac", damage="gt(n\\,100)")
    video = await transcode(path, tmp_path)
    first, _ = audio_specs(video.specs)
    heard = samples(video.whole(first.renditions[0].name))
    joint = SAMPLE_RATE_HZ * first.segment_ms // 1000
    assert max(heard[:joint]) > 2000 and set(heard[joint + 2048 :]) == {0}
    assert WARNING in (await verify(video, tmp_path)).warnings


async def test_alone_it_is_no_video(tmp_path: Path) -> None:
    path = made(tmp_path / "source.mka", *TONE, "-c:a", "aac")
    with pytest.raises(WorkFailed) as failed:
        await transcode(path, tmp_path)
    assert not failed.value.failure.retryable

"""A long sound track is made in pieces, which are byte for byte what one run makes."""

import subprocess
from pathlib import Path

import pytest

from events.kinds import AudioSpec, MediaResult
from events.media import PlanSettings, Rendition
from processors.planning.plan import jobs_for
from tests.support.transcoding import audio_specs, finish, job_work, planned, transcode, verify
from tests.support.work import ffmpeg_path, local_source

SETTINGS = PlanSettings(segment_s=1.0, chunk_s=4.0, preset="ultrafast")
TONE = "0.6*sin(2*PI*(200+60*t)*t)*lt(mod(t,0.37),0.2)+0.1*(random({})-0.5)"


def beats(layout: str, channels: int, rate_hz: int) -> tuple[str, ...]:
    """Rising tones that begin and end abruptly, in noise: what the encoder's windows and rates depend on keeps changing."""
    tones = "|".join(TONE.format(channel) for channel in range(channels))
    return ("-f", "lavfi", "-i", f"aevalsrc=exprs='{tones}':c={layout}:s={rate_hz}:d=20")


SOURCES = {
    "stereo.mp4": (*beats("stereo", 2, 48_000), "-c:a", "aac"),
    "surround.mkv": (*beats("5.1", 6, 44_100), "-c:a", "flac"),
    "mono.ts": (*beats("mono", 1, 32_000), "-c:a", "mp2"),
}


def sound(name: str, folder: Path, seconds: str = "9.3") -> Path:
    """Make a file with nothing but sound."""
    path = folder / name
    subprocess.run([ffmpeg_path(), "-v", "error", *SOURCES[name], "-t", seconds, str(path)], check=True)
    return path


async def whole_track(path: Path, folder: Path, format_: str) -> AudioSpec:
    """Return the job that makes the first sound track in one piece."""
    probe, decided, _specs = await planned(path, folder, SETTINGS.model_copy(update={"format": format_}))
    spec = audio_specs(jobs_for(local_source(path), decided, probe))[0]
    return spec.model_copy(update={"first_segment": 0, "end_segment": None})


async def made(spec: AudioSpec, path: Path, folder: Path, name: str) -> tuple[Rendition, ...]:
    result, _ = await finish(spec, job_work(folder, path, name))
    assert isinstance(result, MediaResult)
    return result.renditions


@pytest.mark.parametrize("format_", ["cmaf", "hls_ts"])
@pytest.mark.parametrize("name", SOURCES)
async def test_pieces_of_sound_have_the_bytes_that_one_run_makes(name: str, format_: str, tmp_path: Path) -> None:
    path = sound(name, tmp_path)
    spec = await whole_track(path, tmp_path, format_)
    together = await made(spec, path, tmp_path, "together")
    pieces = []
    for first, end in ((0, 1), (1, 4), (4, None)):
        piece = spec.model_copy(update={"first_segment": first, "end_segment": end})
        pieces.append(await made(piece, path, tmp_path, f"from-{first}"))

    for number, rendition in enumerate(together):
        parts = [piece[number] for piece in pieces]
        joined = [segment for part in parts for segment in part.segments]
        assert [s.number for s in joined] == [s.number for s in rendition.segments] == list(range(len(joined)))
        assert [s.object.sha256 for s in joined] == [s.object.sha256 for s in rendition.segments]
        assert [s.duration for s in joined] == [s.duration for s in rendition.segments]
        assert {part.init and part.init.sha256 for part in parts} == {rendition.init and rendition.init.sha256}


async def test_a_track_that_was_made_in_pieces_is_verified(tmp_path: Path) -> None:
    path = sound("stereo.mp4", tmp_path, "14")
    video = await transcode(path, tmp_path)
    assert [(spec.first_segment, spec.end_segment) for spec in audio_specs(video.specs)] == [(0, 1), (1, None)]
    assert (await verify(video, tmp_path)).duration_ms == pytest.approx(video.plan.duration_ms, abs=25)

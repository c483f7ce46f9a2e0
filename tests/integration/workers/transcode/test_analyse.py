"""Every awkward input gets its decided answer: `AWKWARD` says which."""

import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from events.kinds import AnalyseResult, AnalyseSpec, AudioSpec, EncodeSpec
from events.media import Chunk, Plan, PlanSettings, Probe, VideoPlan, VideoTrack
from processors.planning.plan import jobs_for, plan
from tests.support.awkward import AWKWARD
from tests.support.clips import clip, real_clips
from tests.support.recipes import Failed, Published
from tests.support.work import ffmpeg_path, local_source, local_work
from workers.attempts.work import Done, Limits, WorkFailed
from workers.transcode.accepted import CONTAINERS
from workers.transcode.analyse import run
from workers.transcode.argv import decoding
from workers.transcode.entry import Entry, enter_chunk, enter_sound
from workers.transcode.mixing import mix

PUBLISHED = [name for name, recipe in AWKWARD.items() if isinstance(recipe.expected, Published)]
FAILED = [name for name, recipe in AWKWARD.items() if isinstance(recipe.expected, Failed)]
WITH_PICTURES = [name for name in PUBLISHED if AWKWARD[name].expected.rungs and not name.startswith("nasty")]  # type: ignore[union-attr]
WITH_SOUND = [name for name in PUBLISHED if AWKWARD[name].expected.audio_tracks and not name.startswith("nasty")]  # type: ignore[union-attr]
TOLERANCE_MS = 60


async def analyse(path: Path, tmp_path: Path, *, sha256: str | None = None, limits: Limits | None = None) -> Probe:
    """Run the analysis of a local file to its end."""
    source = local_source(path)
    if sha256 is not None:
        source = source.model_copy(update={"sha256": sha256})
    updates = [update async for update in run(AnalyseSpec(source=source), local_work(tmp_path, path, limits=limits))]
    last = updates[-1]
    assert isinstance(last, Done)
    assert isinstance(last.result, AnalyseResult)
    return last.result.probe


async def planned(path: Path, tmp_path: Path, settings: PlanSettings | None = None) -> tuple[Probe, Plan]:
    """Analyse and plan a local file."""
    probe = await analyse(path, tmp_path)
    decided = plan(probe, settings or PlanSettings())
    assert isinstance(decided, Plan), decided
    return probe, decided


@pytest.mark.parametrize("name", PUBLISHED)
async def test_a_good_source_is_planned_as_decided(name: str, tmp_path: Path) -> None:
    expected = AWKWARD[name].expected
    assert isinstance(expected, Published)

    probe, decided = await planned(clip(name), tmp_path)

    rungs = decided.video.rungs if decided.video is not None else ()
    assert tuple(rung.name for rung in rungs) == expected.rungs
    if expected.sizes:
        assert tuple((rung.width, rung.height) for rung in rungs) == expected.sizes
    if decided.video is not None:
        assert decided.video.frame_rate == expected.frame_rate
    assert len({rendition.track for rendition in decided.audio}) == expected.audio_tracks
    assert len(decided.subtitles) == expected.subtitles
    assert abs(decided.duration_ms - expected.duration_ms) <= TOLERANCE_MS
    warnings = "\n".join((*probe.warnings, *decided.notes))
    for words in expected.warnings:
        assert words in warnings
    for words in expected.silent_about:
        assert words not in warnings
    if not expected.warnings:
        assert not probe.warnings


@pytest.mark.parametrize("name", FAILED)
async def test_a_bad_source_fails_with_its_code_and_a_sentence(name: str, tmp_path: Path) -> None:
    expected = AWKWARD[name].expected
    assert isinstance(expected, Failed)

    with pytest.raises(WorkFailed) as caught:
        await analyse(clip(name), tmp_path)

    failure = caught.value.failure
    assert (failure.code, failure.stage) == (expected.code, expected.stage)
    assert not failure.retryable
    assert failure.message.startswith("The file ")
    assert failure.message.endswith((".", ")."))
    assert str(clip(name)) not in failure.message


async def test_two_languages_keep_their_names_and_default(tmp_path: Path) -> None:
    probe, decided = await planned(clip("two_languages"), tmp_path)

    assert [(track.language, track.title, track.default) for track in probe.audio] == [
        ("eng", None, False),
        ("ger", "Kommentar", True),
    ]
    assert [(sound.language, sound.label, sound.default) for sound in decided.audio] == [
        ("en", "English", False),
        ("de", "Kommentar", True),
    ]


async def test_strange_languages_become_valid_tags_and_distinct_names(tmp_path: Path) -> None:
    _, decided = await planned(clip("strange_languages"), tmp_path)

    tracks = dict.fromkeys((sound.language, sound.label) for sound in decided.audio)
    assert list(tracks) == [("de", "Deutsch"), ("de", "Deutsch (2)"), ("und", "Track 3")]


async def test_hdr_is_kept_when_the_codec_can(tmp_path: Path) -> None:
    _, decided = await planned(clip("hdr_pq"), tmp_path, PlanSettings(codec="hevc", hdr="keep"))

    assert decided.video is not None
    assert decided.video.pixel_format == "yuv420p10le"
    assert not any("tonemap" in text for text in decided.video.filters)


@pytest.mark.parametrize(
    ("name", "rungs"),
    [("bigbuckbunny", ("720p", "480p", "360p")), ("bikes", ("272p",)), ("carphone", ("144p",))],
)
async def test_real_clips_are_planned(name: str, rungs: tuple[str, ...], tmp_path: Path) -> None:
    probe, decided = await planned(real_clips()[name], tmp_path)

    assert decided.video is not None
    assert tuple(rung.name for rung in decided.video.rungs) == rungs
    assert not probe.warnings


async def test_another_digest_than_the_sender_said_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed) as caught:
        await analyse(clip("mp4"), tmp_path, sha256="0" * 64)

    assert caught.value.failure.code == "FILE_DIGEST"


async def test_a_tool_without_memory_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed) as caught:
        await analyse(clip("mp4"), tmp_path, limits=Limits(memory_max_bytes=2**24))

    assert caught.value.failure.retryable


def frames_of(path: Path, video: VideoPlan, entry: Entry) -> list[str]:
    """Return the digest of every picture that ffmpeg makes of this part; timestamps must count from 0."""
    chain = [
        *entry.filters,
        *video.source_filters,
        "scale",
        *video.filters,
        *entry.padding,
        "scale=64:36",
        f"format={video.pixel_format}",
    ]
    graph = ("-filter_complex", f"[0:{video.track}]{','.join(chain)}[v]", "-map", "[v]")
    text = _ffmpeg(path, entry, *graph, "-f", "framemd5", decoder=decoding(video.decoder))
    rows = [row.split(",") for row in text.decode().splitlines() if not row.startswith("#")]
    assert [int(row[2]) for row in rows] == list(range(len(rows)))
    return [row[-1].strip() for row in rows]


def _ffmpeg(path: Path, entry: Entry, *arguments: str, decoder: tuple[str, ...] = ()) -> bytes:
    allowed = ("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS)
    command = [ffmpeg_path(), "-v", "error", "-threads", "1", *allowed, *entry.input, *decoder, "-i", f"file:{path}"]
    done = subprocess.run([*command, *arguments, *entry.output, "-"], capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize("name", WITH_PICTURES)
async def test_chunks_made_apart_have_the_pictures_of_one_run(name: str, tmp_path: Path) -> None:
    settings = PlanSettings(segment_s=0.2, chunk_s=0.4)
    _, decided = await planned(clip(name), tmp_path, settings)
    video = decided.video
    assert video is not None
    frames = video.chunks[-1].start_frame + video.chunks[-1].frames
    whole = Chunk(index=0, start_frame=0, frames=frames, first_segment=0, segments=1)

    together = frames_of(clip(name), video, enter_chunk(video, whole))
    apart = [frame for chunk in video.chunks for frame in frames_of(clip(name), video, enter_chunk(video, chunk))]

    assert len(together) == frames
    assert apart == together


def shown_ms(path: Path, video: VideoTrack) -> list[float]:
    """Return when ffmpeg shows each picture, on the source's own clock."""
    allowed = ("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS)
    command = [ffmpeg_path(), "-v", "info", "-copyts", "-threads", "1", *allowed, *decoding(video.decoder), "-i", f"file:{path}"]
    command += ["-map", f"0:{video.index}", "-vf", "settb=AVTB,showinfo=checksum=0", "-fps_mode", "passthrough", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    return [float(time) * 1000 for time in re.findall(r"showinfo.* pts_time:(\S+)", said)]


@pytest.mark.parametrize("name", [name for name in WITH_PICTURES if "clock" not in name and "corrupt" not in name])
async def test_the_first_and_the_last_picture_are_where_the_analysis_says(name: str, tmp_path: Path) -> None:
    probe = await analyse(clip(name), tmp_path)
    assert probe.video is not None
    if probe.clock:
        return  # its pictures' times repeat
    picture_ms = 1000 / Fraction(probe.video.frame_rate)

    times = shown_ms(clip(name), probe.video)

    assert abs(min(times) - probe.video.start_ms) <= picture_ms / 2
    assert abs(max(times) + picture_ms - probe.video.start_ms - probe.video.duration_ms) <= picture_ms / 2 + 1


@pytest.mark.parametrize("name", WITH_SOUND)
async def test_sound_lasts_exactly_as_planned(name: str, tmp_path: Path) -> None:
    probe, decided = await planned(clip(name), tmp_path)
    jobs = jobs_for(local_source(clip(name)), decided, probe)

    for spec in (job for job in jobs.values() if isinstance(job, AudioSpec)):
        entry = enter_sound(spec)
        mixed = mix(spec.channel_layout, spec.channels) or "anull"
        track = ("-map", f"0:{spec.renditions[0].track}", "-af", ",".join((mixed, *entry.filters, *entry.padding)))
        samples = _ffmpeg(clip(name), entry, *track, "-ac", "1", "-ar", "48000", "-f", "s16le")

        assert Fraction(len(samples), 2 * 48) == spec.duration_ms == decided.duration_ms


async def test_late_sound_stays_late(tmp_path: Path) -> None:
    path = clip("late_audio")
    probe, decided = await planned(path, tmp_path)
    (spec,) = (job for job in jobs_for(local_source(path), decided, probe).values() if isinstance(job, AudioSpec))
    entry = enter_sound(spec)

    samples = _ffmpeg(path, entry, "-map", "0:a", "-af", ",".join(entry.filters), "-ac", "1", "-ar", "48000", "-f", "s16le")

    silent = next(at for at in range(0, len(samples), 2) if abs(int.from_bytes(samples[at : at + 2], "little", signed=True)) > 300)
    assert abs(silent / 2 / 48 - 500) < 5


async def test_jobs_cover_the_plan(tmp_path: Path) -> None:
    path = clip("two_languages")
    probe, decided = await planned(path, tmp_path, PlanSettings(segment_s=0.2, chunk_s=0.4))

    jobs = jobs_for(local_source(path), decided, probe)

    assert sorted(jobs) == ["audio-1", "audio-2", "encode-0", "encode-1", "encode-2", "extras"]
    assert decided.video is not None
    assert tuple(job.chunk for job in jobs.values() if isinstance(job, EncodeSpec)) == decided.video.chunks


@pytest.mark.parametrize("call", [1, 2])
async def test_a_source_that_is_gone_is_no_verdict_on_the_file(call: int, tmp_path: Path) -> None:
    """Whichever of the two runs of ffprobe finds nothing."""
    source = tmp_path / "source.mp4"
    source.write_bytes(clip("mp4").read_bytes())
    spec, work = AnalyseSpec(source=local_source(source)), local_work(tmp_path, source)
    tool = tmp_path / "ffprobe"
    counted = tmp_path / "calls"
    tool.write_text(
        f'#!/bin/sh\necho >> {counted}\n[ $(wc -l < {counted}) -ge {call} ] && rm -f {source}\nexec {work.ffprobe} "$@"\n'
    )
    tool.chmod(0o755)
    with pytest.raises(WorkFailed) as raised:
        _ = [update async for update in run(spec, replace(work, ffprobe=str(tool)))]
    assert (raised.value.failure.code, raised.value.failure.retryable) == ("FILE_ACCESS", True)

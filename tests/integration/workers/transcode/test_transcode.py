"""Chunks made apart are one seamless video, whatever the source is."""

import dataclasses
import hashlib
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from events.kinds import EncodeSpec, ExtrasResult, MediaResult
from events.media import Chunk, PlanSettings, Rendition
from tests.support import flashes
from tests.support.awkward import AWKWARD
from tests.support.clips import clip
from tests.support.recipes import Published
from tests.support.transcoding import (
    SAMPLE_RATE_HZ,
    SHORT,
    Video,
    audio_specs,
    encode_specs,
    ffmpeg,
    finish,
    job_work,
    onset_ms,
    planned,
    samples,
    times_and_pictures,
    transcode,
    verify,
)
from workers.attempts.work import Limits

PUBLISHED = [name for name, recipe in AWKWARD.items() if isinstance(recipe.expected, Published) and not name.startswith("nasty")]
JOINED = ["ntsc", "pal", "film", "open_gop", "open_gop_ts", "long_gop", "hevc", "variable", "resized"]
WITHOUT_TIMES = ["joined_vob", "joined_vob_b", "avi_mpeg4", "avi_h264"]
"""Sources that leave out when pictures are shown."""
WITH_B_FRAMES = SHORT.model_copy(update={"preset": "superfast"})
SLACK = 4
"""How much encoding may change a grey."""


def greys(path: Path) -> list[int]:
    """Return the mean luma of every picture that a player shows."""
    small = ("-vf", "scale=8:8,setsar=1,format=yuv420p,extractplanes=y", "-f", "rawvideo")
    return list(ffmpeg("-i", str(path), "-map", "0:v", "-fps_mode", "passthrough", *small)[27::64])


def assert_alike(found: list[int], wanted: list[int]) -> None:
    """Check that two runs of pictures are the same ones."""
    assert len(found) == len(wanted)
    differing = [at for at, (one, other) in enumerate(zip(found, wanted, strict=True)) if abs(one - other) > SLACK]
    assert not differing, [(at, found[at], wanted[at]) for at in differing[:10]]


async def in_one_run(video: Video, path: Path, folder: Path) -> Video:
    """Make the same video from a plan with one chunk."""
    (spec, *_) = encode_specs(video.specs)
    last = spec.plan.chunks[-1]
    whole = Chunk(
        index=0,
        start_frame=0,
        frames=last.start_frame + last.frames,
        first_segment=0,
        segments=last.first_segment + last.segments,
    )
    plan = spec.plan.model_copy(update={"cut": None, "listed": (whole,)})
    one = EncodeSpec(source=spec.source, format=spec.format, plan=plan, chunk=whole)
    result, _ = await finish(one, job_work(folder, path, "whole"))
    return dataclasses.replace(video, results={"whole": result})


@pytest.mark.parametrize("name", JOINED)
async def test_chunks_played_one_after_the_other_are_one_run(name: str, tmp_path: Path) -> None:
    source = flashes.made(name)
    video = await transcode(source, tmp_path, WITH_B_FRAMES)
    assert video.plan.video is not None
    rung = video.plan.video.rungs[0].name
    ticks = video.plan.video.timescale / Fraction(video.plan.video.frame_rate)

    await verify(video, tmp_path)
    joined = video.whole(rung)
    together = (await in_one_run(video, source, tmp_path)).whole(rung)

    assert len({part.init.sha256 for part in video.parts(rung) if part.init}) == 1
    assert len(video.plan.video.chunks) >= 3 or not video.probe.video or not video.probe.video.seekable
    assert [time for time, _ in times_and_pictures(joined)] == [n * ticks for n in range(len(greys(joined)))]
    assert_alike(greys(joined), greys(together))


@pytest.mark.parametrize("name", [*(name for name in JOINED if name != "variable"), *WITHOUT_TIMES])
async def test_every_picture_of_the_source_is_there_once(name: str, tmp_path: Path) -> None:
    source = flashes.made(name)
    video = await transcode(source, tmp_path, WITH_B_FRAMES)
    assert video.plan.video is not None

    found = greys(video.whole(video.plan.video.rungs[0].name))

    assert_alike(found, [flashes.grey(frame) for frame in range(len(found))])
    assert video.probe.video is not None
    assert len(found) == video.probe.video.frame_count


@pytest.mark.parametrize(("codec", "name"), [("hevc", "hvc1."), ("av1", "av01.")])
async def test_other_codecs_join_as_well(codec: str, name: str, tmp_path: Path) -> None:
    settings = WITH_B_FRAMES.model_copy(update={"codec": codec})
    video = await transcode(flashes.made("ntsc"), tmp_path, settings)
    assert video.plan.video is not None
    rung = video.plan.video.rungs[0].name
    await verify(video, tmp_path)

    found = times_and_pictures(video.whole(rung))

    assert len({part.init.sha256 for part in video.parts(rung) if part.init}) == 1
    assert all(part.codecs.startswith(name) for part in video.parts(rung))
    assert [time for time, _ in found] == [1001 * n for n in range(60)]
    assert_alike(greys(video.whole(rung)), [flashes.grey(frame) for frame in range(60)])


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
async def test_headers_are_the_same_whatever_a_worker_has_of_cores(codec: str, tmp_path: Path) -> None:
    source = clip("landscape")
    digests = set()
    for threads in (1, 2, 0):
        folder = tmp_path / str(threads)
        settings = WITH_B_FRAMES.model_copy(update={"codec": codec})
        _, _, specs = await planned(source, folder, settings)
        result, _ = await finish(encode_specs(specs)[0], job_work(folder, source, "one", Limits(threads=threads)))
        assert isinstance(result, MediaResult)
        digests |= {part.init.sha256 for part in result.renditions if part.init}

    assert len(digests) == 1


async def test_a_slide_that_stands_for_minutes_is_in_every_chunk(tmp_path: Path) -> None:
    source = flashes.made("slides")
    settings = PlanSettings(segment_s=5, chunk_s=10, preset="ultrafast")
    _, decided, specs = await planned(source, tmp_path, settings)
    assert decided.video is not None
    chunks = encode_specs(specs)

    for index in (0, 3, 5, 11):
        result, _ = await finish(chunks[index], job_work(tmp_path, source, f"encode-{index}"))
        assert isinstance(result, MediaResult)
        video = Video(*(await planned(source, tmp_path, settings))[:2], {"x": result}, job_work(tmp_path, source, "x").store, specs)  # type: ignore[arg-type]
        rate = Fraction(decided.video.frame_rate)
        slides = [int(Fraction(chunks[index].chunk.start_frame + n) / rate / 40) for n in range(chunks[index].chunk.frames)]
        assert_alike(greys(video.whole(decided.video.rungs[0].name)), [flashes.grey(slide) for slide in slides])


# --- every kind of input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
async def test_every_good_input_becomes_a_verified_ladder(name: str, tmp_path: Path) -> None:
    expected = AWKWARD[name].expected
    assert isinstance(expected, Published)

    video = await transcode(clip(name), tmp_path)
    verified = await verify(video, tmp_path)

    assert verified.rungs == expected.rungs
    assert abs(verified.duration_ms - expected.duration_ms) <= 100
    assert (verified.thumbnail is not None) == bool(expected.rungs)
    extras = [result for result in video.results.values() if isinstance(result, ExtrasResult)]
    assert sum(len(result.subtitles) for result in extras) == expected.subtitles
    assert not any(result.warnings for result in extras)
    for rung in video.plan.video.rungs if video.plan.video else ():
        shown = times_and_pictures(video.whole(rung.name))
        assert shown[0][0] == 0
        assert len({later[0] - earlier[0] for earlier, later in pairwise(shown)}) <= 1


@pytest.mark.parametrize("name", ["corrupt_middle", "corrupt_ts", "truncated_faststart"])
async def test_damage_is_covered_up_and_reported(name: str, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)

    verified = await verify(video, tmp_path)

    assert any(warning.startswith("damaged pictures: ") for warning in verified.warnings)


async def test_a_portrait_stands_upright(tmp_path: Path) -> None:
    video = await transcode(clip("portrait"), tmp_path)
    upright = await transcode(clip("landscape"), tmp_path / "other")

    turned = ffmpeg(
        "-i", str(video.whole("360p")), "-frames:v", "1", "-vf", "transpose=1,scale=64:36,format=gray", "-f", "rawvideo"
    )
    wanted = ffmpeg("-i", str(upright.whole("360p")), "-frames:v", "1", "-vf", "scale=64:36,format=gray", "-f", "rawvideo")

    assert sum(abs(a - b) for a, b in zip(turned, wanted, strict=True)) / len(wanted) < 6


async def test_high_dynamic_range_becomes_standard(tmp_path: Path) -> None:
    video = await transcode(clip("hdr_pq"), tmp_path)

    words = video.whole("360p").read_bytes()

    assert b"nclx" not in words or words[words.index(b"nclx") + 4 :][:6] == bytes((0, 1, 0, 1, 0, 1))
    assert max(ffmpeg("-i", str(video.whole("360p")), "-frames:v", "1", "-vf", "format=gray", "-f", "rawvideo")) > 150


async def test_subtitles_become_webvtt_on_the_clock_of_the_video(tmp_path: Path) -> None:
    video = await transcode(clip("text_subtitles_mkv"), tmp_path)

    picture, extras = (result for result in video.results.values() if isinstance(result, ExtrasResult))
    text = video.data(extras.subtitles[0].object).decode()

    assert text.startswith("WEBVTT\n")
    assert "00:00:00.100 --> 00:00:00.500\nHello, <i>world</i>" in text
    assert "00:00:00.600 --> 00:00:00.900\nZwei: äö" in text
    assert picture.thumbnail is not None
    assert video.data(picture.thumbnail)[:3] == b"\xff\xd8\xff"


async def test_captions_that_say_nothing_are_left_out_and_reported(tmp_path: Path) -> None:
    blank = tmp_path / "blank.mp4"
    spoken = clip("captions_in_pictures").read_bytes()
    blank.write_bytes(re.sub(rb"(?<=\x03\xc1\xff\xfc)..(?=\xff)", b"\x80\x80", spoken, flags=re.DOTALL))

    video = await transcode(blank, tmp_path)

    _picture, extras = (result for result in video.results.values() if isinstance(result, ExtrasResult))
    assert extras.subtitles == ()
    assert extras.warnings == ("closed captions inside the pictures say nothing, or could not be read",)


# --- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begins_ms"), [("late_audio", 500), ("audio_only", 0), ("mp4", 0), ("ts", 0), ("surround", 0)])
async def test_sound_begins_when_it_should(name: str, begins_ms: int, tmp_path: Path) -> None:
    video = await transcode(clip(name), tmp_path)

    for rendition in video.plan.audio:
        assert abs(onset_ms(video.whole(rendition.name)) - begins_ms) <= 40


async def test_late_pictures_keep_their_distance_to_the_sound(tmp_path: Path) -> None:
    video = await transcode(flashes.made("late"), tmp_path)
    assert video.plan.video is not None

    shown = greys(video.whole(video.plan.video.rungs[0].name))

    begins = next(at for at, value in enumerate(shown) if abs(value - flashes.grey(0)) > SLACK) - 1
    assert abs(begins / 25 - 0.5) <= 0.04
    assert onset_ms(video.whole(video.plan.audio[0].name)) <= 40


async def test_both_languages_are_kept_apart(tmp_path: Path) -> None:
    video = await transcode(clip("two_languages"), tmp_path)

    heard = [pitch_hz(samples(video.whole(audio.name))[4800:43200]) for audio in video.plan.audio]

    assert [abs(found - hertz) < 15 for found, hertz in zip(heard, (440, 880), strict=True)] == [True, True]


async def test_a_change_of_the_sound_format_moves_nothing(tmp_path: Path) -> None:
    source = flashes.made("relayed")
    video = await transcode(source, tmp_path)
    await verify(video, tmp_path)

    heard = samples(video.whole(video.plan.audio[0].name))

    second = SAMPLE_RATE_HZ
    assert abs(len(heard) - 4 * second) < second // 10
    assert abs(pitch_hz(heard[: 19 * second // 10]) - 440) < 10
    assert abs(pitch_hz(heard[21 * second // 10 : 39 * second // 10]) - 880) < 20
    assert abs(pitch_hz(heard[: 2 * second]) - 440) < 30


def pitch_hz(heard: list[int]) -> int:
    """Return how often a second the sound crosses zero upwards."""
    crossings = sum(one < 0 <= other for one, other in pairwise(heard))
    return round(crossings * SAMPLE_RATE_HZ / len(heard))


async def test_long_sound_has_segments_as_long_as_those_of_the_pictures(tmp_path: Path) -> None:
    settings = PlanSettings(segment_s=0.5, chunk_s=1, preset="ultrafast")
    video = await transcode(flashes.made("relayed"), tmp_path, settings)
    (spec,) = audio_specs(video.specs)

    name = spec.renditions[0].name
    lengths_ms = [1000 * segment.duration / SAMPLE_RATE_HZ for segment in video.segments(name)]

    at_ms = 0.0
    for index, length in enumerate(lengths_ms[:-1]):
        at_ms += length
        assert abs(at_ms - spec.segment_ms * (index + 1)) < 1000 * 1024 / SAMPLE_RATE_HZ + 1


# --- legacy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("ntsc", "h264"), ("variable", "h264"), ("ntsc", "hevc")])
async def test_legacy_segments_play_from_a_playlist(name: str, codec: str, tmp_path: Path) -> None:
    settings = WITH_B_FRAMES.model_copy(update={"format": "hls_ts", "codec": codec})
    video = await transcode(flashes.made(name), tmp_path, settings)
    await verify(video, tmp_path)
    assert video.plan.video is not None
    rung = video.plan.video.rungs[0].name

    playlist = tmp_path / "index.m3u8"
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:1", "#EXT-X-PLAYLIST-TYPE:VOD"]
    for segment in video.segments(rung):
        lines += [f"#EXTINF:{segment.duration / 90000:.6f},", str(video.store.path_of(segment.object.key))]
    playlist.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    times = [time for time, _ in times_and_pictures(playlist)]
    rate = Fraction(video.plan.video.frame_rate)

    assert len(times) == sum(chunk.frames for chunk in video.plan.video.chunks)
    assert all(abs(time - times[0] - 90000 * n / rate) <= 1 for n, time in enumerate(times))


async def test_legacy_sound_and_pictures_share_a_clock(tmp_path: Path) -> None:
    video = await transcode(clip("late_audio"), tmp_path, SHORT.model_copy(update={"format": "hls_ts"}))
    await verify(video, tmp_path)
    sound, pictures = video.whole(video.plan.audio[0].name), video.whole("240p")

    text = ffmpeg("-copyts", "-i", str(sound), "-c", "copy", "-f", "framemd5").decode()
    first = next(int(row.split(",")[2]) for row in text.splitlines() if not row.startswith("#"))

    assert first == times_and_pictures(pictures)[0][0]
    assert abs(onset_ms(sound) - 500) <= 40


# --- what is stored -------------------------------------------------------------------------------------------------


async def test_what_is_reported_is_what_is_stored(tmp_path: Path) -> None:
    video = await transcode(clip("two_languages"), tmp_path)

    stored = set(video.store.keys())
    refs = [part.init for name in video.results for part in getattr(video.results[name], "renditions", ())]
    refs += [segment.object for part in _parts(video) for segment in part.segments]
    refs += [result.result for result in video.results.values() if isinstance(result, MediaResult | ExtrasResult)]

    for ref in refs:
        assert ref is not None
        data = video.data(ref)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (ref.size_bytes, ref.sha256)
    assert stored - {ref.key for ref in refs if ref} == {"videos/v/extras/1/thumbnail.jpg"}
    assert {video.store.content_types[key] for key in stored if key.endswith(".m4s")} == {"video/iso.segment", "audio/iso.segment"}


def _parts(video: Video) -> list[Rendition]:
    return [part for result in video.results.values() if isinstance(result, MediaResult) for part in result.renditions]

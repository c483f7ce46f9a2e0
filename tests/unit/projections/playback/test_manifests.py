"""What players get: HLS while it grows and when it is done, DASH, and where everything is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Event, Recorded
from events.media import Plan, Rendition, Segment
from projections import catalog
from projections.catalog import Media, Video
from projections.playback import manifests
from projections.playback.dash import NAMESPACE
from projections.playback.tracks import Track, target_s
from tests.support.folding import folded
from tests.support.footage import RUNGS, VIDEO_ID, completions, id_of, life, plan, prefix_of, reference

TWO_LANGUAGES = plan(languages=("en", "de"), subtitles=("en", "fr"))
PAGE = "http://kinolog.example/behind/a/prefix/videos/big-buck-bunny-x/"


def seen(made: Plan, jobs: Sequence[int] | None = None, *, published: bool = True) -> tuple[Video, list[Media]]:
    """Return the rows after these of the plan's jobs completed, in this order; all when None."""
    done = completions(made)
    records: list[Recorded[Event]] = [*life(made, published=published), *(done if jobs is None else [done[n] for n in jobs])]
    tables = folded(catalog.PROJECTION, records)
    return tables["videos"][(VIDEO_ID,)], list(tables["media"].values())


def playlist(made: Plan, name: str, jobs: Sequence[int] | None = None, *, published: bool = True) -> str | None:
    return manifests.hls_media(*seen(made, jobs, published=published), name)


def parsed(text: str | None, name: str = "master") -> Any:
    assert text is not None
    return m3u8.loads(text, uri=f"{PAGE}{name}.m3u8")


def mpd(made: Plan) -> ElementTree.Element:
    text = manifests.dash(*seen(made))
    assert text is not None
    return ElementTree.fromstring(text)


def all_of(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return root.findall(f".//{{{NAMESPACE}}}{name}")


# --- addresses ------------------------------------------------------------------------------------------------------


def test_an_object_has_one_public_path_which_leads_back_to_its_key() -> None:
    key = f"{prefix_of('chunk 0')}/720p/00003.m4s"
    path = manifests.media_path(key)
    assert path == "/media/" + key.removeprefix("videos/")
    assert manifests.object_key(path.removeprefix("/media/")) == key


def test_addresses_in_manifests_are_relative_and_meet_the_media_wherever_the_app_is() -> None:
    text = playlist(TWO_LANGUAGES, "720p")
    assert text is not None and "://" not in text and "\n/" not in text
    first = parsed(text, "720p").segments[0]
    assert urljoin(PAGE + "720p.m3u8", first.uri) == (
        f"http://kinolog.example/behind/a/prefix/media/{VIDEO_ID}/{id_of('chunk 0')}/1/720p/00000.m4s"
    )


def test_stored_copies_name_the_objects_beside_them() -> None:
    files = manifests.stored(*seen(TWO_LANGUAGES))
    assert set(files) == {
        f"videos/{VIDEO_ID}/{name}"
        for name in (
            *("master.m3u8", "manifest.mpd", "1080p.m3u8", "720p.m3u8", "360p.m3u8", "subtitles-5.m3u8", "subtitles-6.m3u8"),
            *(f"audio-{track}-{kbps}k.m3u8" for track in (1, 2) for kbps in (96, 128)),
        )
    }
    text, media_type = files[f"videos/{VIDEO_ID}/720p.m3u8"]
    assert media_type == "application/vnd.apple.mpegurl"
    assert f"\n{id_of('chunk 0')}/1/720p/00000.m4s\n" in text
    assert manifests.stored(*seen(TWO_LANGUAGES, published=False)) == {}


# --- master ---------------------------------------------------------------------------------------------------------


def test_the_master_names_every_rung_with_its_sound_and_its_subtitles() -> None:
    master = parsed(manifests.hls_master(*seen(TWO_LANGUAGES)))
    assert master.is_variant and master.is_independent_segments
    variants = {variant.uri: variant.stream_info for variant in master.playlists}
    assert list(variants) == ["720p.m3u8", "1080p.m3u8", "360p.m3u8"], "players begin with the first: not with the largest"
    assert variants["1080p.m3u8"].resolution == (1920, 1080)
    assert variants["1080p.m3u8"].frame_rate == 29.97
    assert variants["1080p.m3u8"].codecs == "avc1.64001f,mp4a.40.2"
    assert {uri: info.audio for uri, info in variants.items()} == {
        "720p.m3u8": "audio-128k",
        "1080p.m3u8": "audio-128k",
        "360p.m3u8": "audio-96k",
    }
    assert all(info.subtitles == "subtitles" for info in variants.values())


def test_every_group_of_sound_has_the_same_members_and_one_default() -> None:
    media = parsed(manifests.hls_master(*seen(TWO_LANGUAGES))).media
    members = {
        group: [(m.name, m.language, m.default) for m in media if m.group_id == group] for group in ("audio-96k", "audio-128k")
    }
    assert members["audio-96k"] == members["audio-128k"] == [("EN", "en", "YES"), ("DE", "de", "NO")]
    texts = [(m.name, m.language, m.default, m.forced, m.uri) for m in media if m.type == "SUBTITLES"]
    assert texts == [("EN", "en", "YES", "NO", "subtitles-5.m3u8"), ("FR", "fr", "NO", "NO", "subtitles-6.m3u8")]


def test_languages_that_older_plans_have_as_files_said_them_are_valid_tags() -> None:
    made = plan(languages=("ger", "x<&>", "pt-BR"), subtitles=("jpn",))

    media = parsed(manifests.hls_master(*seen(made))).media
    sets = all_of(mpd(made), "AdaptationSet")

    assert [m.language for m in media if m.group_id in ("audio-128k", "subtitles")] == ["de", None, "pt-BR", "ja"]
    assert [one.get("lang") for one in sets if one.get("contentType") != "video"] == ["de", None, "pt-BR", "ja"]


def test_bandwidth_is_measured_over_pictures_and_sound() -> None:
    made = plan()
    video, media = seen(made)
    found = manifests.tracks(video, media)
    info = {p.uri: p.stream_info for p in parsed(manifests.hls_master(video, media)).playlists}["720p.m3u8"]
    peak = max(-(-s.object.size_bytes * 8 * found["720p"].timescale // s.duration) for s in found["720p"].segments)
    assert info.bandwidth == peak + found["audio-1-128k"].peak_bps(target_s(made))
    assert info.average_bandwidth == found["720p"].mean_bps + found["audio-1-128k"].mean_bps
    assert 2_400_000 < info.average_bandwidth <= info.bandwidth < 2_700_000


def test_a_short_last_segment_is_no_peak() -> None:
    segments = [Segment(number=n, duration=6000, object=reference("s", 600_000)) for n in range(3)]
    last = Segment(number=3, duration=100, object=reference("s", 200_000))
    track = Track("720p", "avc1", 1000, None, (*segments, last))
    assert track.peak_bps(6) == -(-(600_000 + 200_000) * 8 * 1000 // 6100)


def test_a_variant_announces_what_is_allowed_while_it_is_not_known() -> None:
    info = parsed(manifests.hls_master(*seen(plan(), [0, 2], published=False))).playlists[0].stream_info
    assert info.bandwidth >= 1.5 * 2_500_000 + 128_000, "a segment that is not there yet may have the encoder's peak rate"


@pytest.mark.parametrize(
    ("jobs", "playable"),
    [
        ([], False),
        ([0], False),  # no sound yet
        ([2], False),  # no pictures yet
        ([1, 2], False),  # the second chunk is no beginning
        ([0, 3], False),  # the second language is not what is heard by default
        ([0, 2], True),
        ([2, 0], True),
    ],
)
def test_the_master_comes_with_the_first_chunk_and_the_default_sound(jobs: list[int], playable: bool) -> None:
    assert (manifests.hls_master(*seen(TWO_LANGUAGES, jobs, published=False)) is not None) == playable


def test_what_failed_or_is_uploading_or_was_purged_has_no_manifest() -> None:
    video, media = seen(TWO_LANGUAGES)
    for status in ("uploading", "failed", "abandoned", "purged"):
        gone = replace(video, status=status)
        assert manifests.hls_master(gone, media) is manifests.hls_media(gone, media, "720p") is manifests.dash(gone, media) is None
    assert manifests.hls_master(replace(video, plan=None), media) is None


def test_whether_there_is_a_manifest_can_be_known_without_rendering_it() -> None:
    for jobs in ([], [0], [0, 2]):
        rows = seen(TWO_LANGUAGES, jobs, published=False)
        assert manifests.has_hls(*rows) == (manifests.hls_master(*rows) is not None)
        assert not manifests.has_dash(rows[0])
    video, _ = seen(TWO_LANGUAGES)
    assert manifests.has_hls(video, []) and manifests.has_dash(video)
    assert not manifests.has_dash(seen(plan(streaming_format="hls_ts"))[0])


def test_a_silent_video_has_no_sound_group() -> None:
    master = parsed(manifests.hls_master(*seen(plan(languages=()), [0], published=False)))
    assert master.media == []
    assert master.playlists[0].stream_info.audio is None
    assert master.playlists[0].stream_info.codecs == "avc1.64001f"


def test_sound_alone_is_a_variant_for_each_rate() -> None:
    master = parsed(manifests.hls_master(*seen(plan(rungs=()))))
    assert [variant.uri for variant in master.playlists] == ["audio-1-128k.m3u8", "audio-1-96k.m3u8"]
    assert master.playlists[0].stream_info.resolution is None
    assert master.media == []


def test_sound_alone_in_two_languages_has_the_other_one_in_its_group() -> None:
    master = parsed(manifests.hls_master(*seen(plan(rungs=(), languages=("en", "de")))))
    assert [variant.uri for variant in master.playlists] == ["audio-1-128k.m3u8", "audio-1-96k.m3u8"]
    group = [(m.name, m.uri) for m in master.media if m.group_id == "audio-128k"]
    assert group == [("EN", None), ("DE", "audio-2-128k.m3u8")]


def test_high_dynamic_range_is_announced_when_it_is_kept() -> None:
    video, media = seen(plan())
    assert video.probe is not None and video.probe.video is not None and video.plan is not None and video.plan.video is not None
    source = video.probe.model_copy(update={"video": video.probe.video.model_copy(update={"hdr": "pq"})})
    kept = video.plan.model_copy(update={"video": video.plan.video.model_copy(update={"pixel_format": "yuv420p10le"})})
    assert "VIDEO-RANGE=PQ" in str(manifests.hls_master(replace(video, probe=source, plan=kept), media))
    assert "VIDEO-RANGE" not in str(manifests.hls_master(replace(video, probe=source), media))


def test_labels_cannot_break_out_of_their_attribute() -> None:
    made = plan()
    label = 'a"b\nc\r#EXT\x00\u2028\x85 <&> \ufffe\x07'
    nasty = made.model_copy(update={"audio": tuple(a.model_copy(update={"label": label}) for a in made.audio)})
    text = manifests.hls_master(*seen(nasty))
    assert text is not None and all(line.startswith("#EXT") or line.endswith(".m3u8") for line in text.splitlines())
    assert parsed(text).media[0].name.startswith("a b c #EXT")
    assert all_of(mpd(nasty), "Label")[0].text is not None


# --- media playlists ------------------------------------------------------------------------------------------------


def test_a_playlist_as_it_is_written() -> None:
    made = plan(seconds=8.0, rungs=RUNGS[2:], languages=())
    chunk = f"../../media/{VIDEO_ID}/{id_of('chunk 0')}/1/360p"
    assert playlist(made, "360p") == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:7\n"
        "#EXT-X-TARGETDURATION:7\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:EVENT\n"
        "#EXT-X-INDEPENDENT-SEGMENTS\n"
        "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES\n"
        f'#EXT-X-MAP:URI="{chunk}/init.mp4"\n'
        "#EXTINF:6.006000,\n"
        f"{chunk}/00000.m4s\n"
        "#EXTINF:2.002000,\n"
        f"{chunk}/00001.m4s\n"
        "#EXT-X-ENDLIST\n"
    )


def test_durations_add_up_to_the_exact_length_after_any_number_of_segments() -> None:
    made = plan(rate="24000/1001", segment_frames=1, segments_per_chunk=50, seconds=20)
    text = parsed(playlist(made, "360p"))
    frames = sum(chunk.frames for chunk in made.video.chunks) if made.video else 0
    assert sum(Fraction(str(s.duration)) for s in text.segments) == Fraction(round(frames * Fraction(1001, 24000) * 10**6), 10**6)


def test_the_subtitle_playlist_is_whole_from_the_start() -> None:
    text = parsed(playlist(TWO_LANGUAGES, "subtitles-5", published=False), "subtitles-5")
    assert text.is_endlist and text.playlist_type == "vod"
    assert [s.duration for s in text.segments] == [24.0]
    assert text.segments[0].uri.endswith("/subtitles-5.vtt")


def test_all_playlists_of_a_video_have_one_target_duration_which_holds() -> None:
    for name in ("1080p", "360p", "audio-1-96k", "audio-2-128k"):
        text = parsed(playlist(TWO_LANGUAGES, name))
        assert text.target_duration == 7
        assert all(round(segment.duration) <= 7 for segment in text.segments)


def test_transport_streams_have_no_map_and_no_dash() -> None:
    made = plan(streaming_format="hls_ts")
    text = playlist(made, "720p")
    assert text is not None and "EXT-X-MAP" not in text and "#EXT-X-VERSION:3\n" in text
    assert parsed(text).segments[0].uri.endswith(".ts")
    assert manifests.dash(*seen(made)) is None


def test_an_unknown_name_has_no_playlist() -> None:
    assert playlist(TWO_LANGUAGES, "8640p") is None


LONG = plan(seconds=70.0)
JOBS = len(completions(LONG))


@given(st.permutations(range(JOBS)), st.integers(0, JOBS), st.integers(0, JOBS))
def test_a_playlist_only_grows_whatever_order_the_chunks_come_in(order: list[int], one: int, other: int) -> None:
    """Read at two moments of any encoding: the earlier text is the beginning of the later one, gapless from segment 0."""
    early, late = sorted((one, other))
    before = playlist(LONG, "720p", order[:early], published=False)
    after = playlist(LONG, "720p", order[:late], published=late == JOBS)
    if before is None:
        assert LONG.video is not None
        assert 0 not in order[:early]
        return
    assert after is not None and after.startswith(before)
    assert ("#EXT-X-ENDLIST" in after) == (late == JOBS)
    numbers = [int(s.uri.rsplit("/", 1)[1].removesuffix(".m4s")) for s in parsed(after).segments]
    assert numbers == list(range(len(numbers)))
    done = set(order[:late])
    chunks = LONG.video.chunks if LONG.video else ()
    whole = next((index for index in range(len(chunks)) if index not in done), len(chunks))
    assert len(numbers) == sum(chunk.segments for chunk in chunks[:whole])


def test_of_two_results_for_a_chunk_the_first_accepted_stays() -> None:
    video, media = seen(LONG)
    first = next(row for row in media if row.job_id == id_of("chunk 1"))
    again = replace(first, job_id="another job", completed_at=first.completed_at + timedelta(days=365), renditions=_moved(first))
    video = replace(video, job_ids=(*video.job_ids, "another job"))
    assert manifests.hls_media(video, [again, *media], "720p") == manifests.hls_media(video, media, "720p")
    earlier = replace(again, completed_at=first.completed_at - timedelta(days=365))
    assert "elsewhere" in str(manifests.hls_media(video, [*media, earlier], "720p"))


def test_results_of_an_older_plan_are_left_out() -> None:
    video, media = seen(LONG)
    stray = replace(media[0], job_id="of the plan before", completed_at=media[0].completed_at - timedelta(days=365))
    strays = [replace(stray, renditions=_moved(stray)), *media]
    assert manifests.hls_media(video, strays, "720p") == manifests.hls_media(video, media, "720p")


def test_a_part_with_another_initialisation_ends_what_can_be_played() -> None:
    video, media = seen(LONG, published=False)
    odd = next(row for row in media if row.job_id == id_of("chunk 2"))
    other = tuple(r.model_copy(update={"init": reference("videos/x/other-init")}) for r in odd.renditions)
    text = manifests.hls_media(video, [replace(row, renditions=other) if row is odd else row for row in media], "720p")
    assert len(parsed(text).segments) == 4


def _moved(row: Media) -> tuple[Rendition, ...]:
    return tuple(
        rendition.model_copy(
            update={
                "segments": tuple(
                    segment.model_copy(update={"object": reference(f"videos/elsewhere/{segment.number}.m4s")})
                    for segment in rendition.segments
                )
            }
        )
        for rendition in row.renditions
    )


# --- DASH -----------------------------------------------------------------------------------------------------------


def test_dash_waits_for_publication() -> None:
    assert manifests.dash(*seen(TWO_LANGUAGES, published=False)) is None


def test_dash_has_a_set_for_pictures_and_one_for_each_language_and_subtitle() -> None:
    root = mpd(TWO_LANGUAGES)
    sets = [
        (found.get("contentType"), found.get("lang"), [r.get("id") for r in found.findall(f"{{{NAMESPACE}}}Representation")])
        for found in all_of(root, "AdaptationSet")
    ]
    assert sets == [
        ("video", None, ["1080p", "720p", "360p"]),
        ("audio", "en", ["audio-1-128k", "audio-1-96k"]),
        ("audio", "de", ["audio-2-128k", "audio-2-96k"]),
        ("text", "en", ["subtitles-5"]),
        ("text", "fr", ["subtitles-6"]),
    ]
    assert [role.get("value") for role in all_of(root, "Role")] == ["main", "alternate", "subtitle", "main", "subtitle"]
    assert root.get("type") == "static"
    seconds = Fraction(str(root.get("mediaPresentationDuration")).removeprefix("PT").removesuffix("S"))
    assert 24 <= seconds < Fraction(241, 10)


def within(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return element.findall(f"{{{NAMESPACE}}}{name}")


def test_dash_has_one_timeline_for_each_set_without_a_gap_and_an_address_for_each_of_its_times() -> None:
    for found in all_of(mpd(TWO_LANGUAGES), "AdaptationSet"):
        timelines = found.findall(f".//{{{NAMESPACE}}}SegmentTimeline")
        if found.get("contentType") == "text":
            assert timelines == []
            continue
        (listing,) = within(found, "SegmentList")
        assert timelines == within(listing, "SegmentTimeline"), "ffmpeg seeks by the timeline of the set only"
        times = [(int(s.get("t", "-1")), int(s.get("d", "0"))) for s in timelines[0]]
        assert times[0][0] == 0
        assert all(start + length == following for (start, length), (following, _) in pairwise(times))
        for representation in within(found, "Representation"):
            (addresses,) = within(representation, "SegmentList")
            assert addresses.get("timescale") == listing.get("timescale")
            urls = [str(url.get("media")) for url in within(addresses, "SegmentURL")]
            assert len(urls) == len(set(urls)) == len(times)


def test_tracks_that_are_not_cut_alike_have_a_set_each() -> None:
    video, media = seen(plan(languages=()))
    odd = [replace(row, renditions=tuple(_cut_otherwise(r) if r.name == "360p" else r for r in row.renditions)) for row in media]
    root = ElementTree.fromstring(str(manifests.dash(video, odd)))
    sets = [[r.get("id") for r in within(found, "Representation")] for found in all_of(root, "AdaptationSet")]
    assert sets == [["1080p", "720p"], ["360p"]]
    lengths = [sum(int(s.get("d", "0")) for s in all_of(found, "S")) for found in all_of(root, "AdaptationSet")]
    assert lengths[1] == 2 * lengths[0]


def _cut_otherwise(rendition: Rendition) -> Rendition:
    segments = tuple(s.model_copy(update={"duration": 2 * s.duration}) for s in rendition.segments)
    return rendition.model_copy(update={"segments": segments, "timescale": 2 * rendition.timescale})


def test_dash_and_hls_name_the_same_objects() -> None:
    for representation in all_of(mpd(LONG), "Representation"):
        base = urljoin(PAGE + "manifest.mpd", str(representation.findtext(f"{{{NAMESPACE}}}BaseURL")))
        over_dash = [urljoin(base, str(url.get("media"))) for url in all_of(representation, "SegmentURL")]
        name = str(representation.get("id"))
        over_hls = [urljoin(PAGE + f"{name}.m3u8", s.uri) for s in parsed(playlist(LONG, name), name).segments]
        assert over_dash == over_hls
        (init,) = all_of(representation, "Initialization")
        assert urljoin(base, str(init.get("sourceURL"))).endswith(f"/{name}/init.mp4")


def test_dash_of_sound_alone_and_of_a_silent_video() -> None:
    assert [found.get("contentType") for found in all_of(mpd(plan(rungs=())), "AdaptationSet")] == ["audio"]
    assert [found.get("contentType") for found in all_of(mpd(plan(languages=())), "AdaptationSet")] == ["video"]

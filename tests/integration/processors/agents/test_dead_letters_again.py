"""Dead letters as a person meets them: listed, shown, and offered again once the code can use the records."""

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.codec import encode
from events.envelope import Envelope, Event
from events.jobs import JobSubmitted
from events.topics import JOB_REQUESTS, VIDEOS
from events.videos import VideoUploaded
from infra.reference.schemas import ROOT
from infra.runtime import kafka
from infra.runtime.clock import system_context
from infra.runtime.settings import Settings
from processors.agents.dead_letters import bury_with
from projections.folding.log import DeadLetter
from tests.support.log import read_topic
from tests.support.platform import Platform, environment
from tests.support.waiting import eventually

PATIENCE_S = 200.0


def kinolog(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does."""
    command = [sys.executable, "-m", "infra.cli", "events", "dead", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def said(settings: Settings, *words: str, code: int = 0) -> Any:
    """Return a command's JSON."""
    done = kinolog(settings, *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def uploaded() -> Envelope[Event]:
    """Return an upload's end."""
    context = system_context("test")
    id_ = context.new_id()
    event = VideoUploaded(video_id=id_, title="a", filename="a.mp4", object_key=f"sources/{id_}", size_bytes=1)
    return Envelope(context.new_id(), context.source, id_, context.now, event, id_)


@pytest.fixture
async def buried(settings: Settings) -> AsyncIterator[tuple[Settings, Envelope[Event]]]:
    """An upload that planning could not read, nor the catalog, when their code was older; and a record that nobody can read."""
    await kafka.ensure_topics(settings)
    producer = await kafka.open_producer(settings)
    bury = bury_with(producer, topic_prefix=settings.topic_prefix, observe=lambda topic, reader: None)
    event = uploaded()
    letters = [DeadLetter(VIDEOS.name, 1, 4711, "its type is unknown", encode(event), feed) for feed in ("planning", "catalog")]
    await bury([*letters, DeadLetter(VIDEOS.name, 1, 4712, "not JSON", b"{never an event", "planning")])
    await producer.stop()
    yield settings, event


async def submissions(settings: Settings, video_id: str) -> list[str]:
    """Return the ids of the jobs that planning asked for, each as often as it did."""
    requests = [recorded.envelope.data for recorded in await read_topic(settings, JOB_REQUESTS.name)]
    return [request.job_id for request in requests if isinstance(request, JobSubmitted) and request.video_id == video_id]


async def test_letters_are_listed_by_feed_topic_and_time_and_shown_in_full(buried: tuple[Settings, Envelope[Event]]) -> None:
    settings, event = buried
    everything = said(settings)
    assert [(row["feed"], row["offset"]) for row in everything] == [("planning", 4711), ("catalog", 4711), ("planning", 4712)]
    assert [row["id"] for row in said(settings, "--feed", "catalog")] == [everything[1]["id"]]
    assert said(settings, "--topic", "jobs") == [] and said(settings, "--since", "2100-01-01") == []
    shown = said(settings, "show", everything[0]["id"])
    assert (shown["event"]["id"], shown["readable"], shown["reason"]) == (event.id, "yes", "its type is unknown")
    assert "cannot read it either" in said(settings, "show", everything[2]["id"])["readable"]
    plain = kinolog(settings).stdout
    assert all(word in plain for word in (everything[0]["id"], "planning", "its type is unknown"))
    assert kinolog(settings, "show", "videos.dead/0/99").returncode == 4
    assert kinolog(settings, "retry").returncode == 2


async def test_a_letter_that_names_no_feed_is_offered_to_all_that_read_its_topic(settings: Settings) -> None:
    """Older versions wrote such letters; and anybody may have written what is none."""
    await kafka.ensure_topics(settings)
    producer = await kafka.open_producer(settings)
    event, dead = uploaded(), settings.topic_prefix + VIDEOS.dead_letters
    old = {"topic": "videos", "partition": 1, "offset": 5, "reason": "not JSON", "value": base64.b64encode(encode(event)).decode()}
    for value in (json.dumps(old).encode(), b"hello"):
        await producer.send_and_wait(dead, value, partition=0)
    await producer.stop()

    assert [(row["feed"], row["offset"]) for row in said(settings)] == [("", 5), ("", 1)]
    assert kinolog(settings).stdout.count("not named") == 2
    first, second = said(settings, "retry", "--topic", "videos", code=1)
    offered = "it does not name the feed that buried it; offered to files, planning, announcing, which read videos"
    assert first["result"].startswith(offered)
    assert "run: kinolog rebuild catalog" in first["result"]
    assert "cannot read it either" in second["result"]
    assert said(settings)[0]["again"] == "files: waits; planning: waits; announcing: waits"


async def test_what_planning_could_not_read_is_planned_when_it_is_offered_again(buried: tuple[Settings, Envelope[Event]]) -> None:
    settings, event = buried
    of_planning, of_catalog, never = (row["id"] for row in said(settings))

    assert said(settings, "retry", of_planning, "--dry-run") == [
        {"id": of_planning, "feed": "planning", "record": "videos/1/4711", "result": "offered again"}
    ]
    assert {row["again"] for row in said(settings)} == {""}
    results = {row["id"]: row["result"] for row in said(settings, "retry", "--topic", "videos", code=1)}
    assert results[of_planning] == "offered again" and results[of_catalog] == "run: kinolog rebuild catalog"
    assert "cannot read it either" in results[never]

    platform = Platform(settings)
    await platform.start("processors")
    try:
        await platform.ready("processors")

        def done() -> bool:
            return str(said(settings, "--feed", "planning")[0]["again"]).startswith("done")

        await eventually(done)
        first = await submissions(settings, event.subject)
        assert len(first) == 1
        said(settings, "retry", of_planning)
        await eventually(done)
        assert set(await submissions(settings, event.subject)) == set(first), "twice is once"
    finally:
        await platform.__aexit__(None, None, None)

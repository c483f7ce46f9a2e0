"""The deliverer, killed with -9 between attempts and facts, again and again; and rebuilds, which send nothing."""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from events.envelope import Recorded
from events.topics import DELIVERIES
from events.videos import VideoUploaded
from infra.reference.schemas import ROOT
from infra.runtime import postgres
from infra.runtime.clock import new_id
from infra.runtime.history import open_history
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.delivering import announcing
from projections.deliveries import projection as deliveries
from projections.folding.rebuild import rebuild
from tests.support.log import read_topic
from tests.support.platform import environment
from tests.support.receiver import Delivering, Receiver, delivering, receiving
from tests.support.waiting import eventually

ROUNDS = int(os.environ.get("ROUNDS", "4"))
SEED = int(os.environ.get("SEED", "0")) or os.getpid()
VIDEOS = 60


async def run(settings: Settings) -> asyncio.subprocess.Process:
    """Start a deliverer."""
    module = ("-m", "tests.support.deliverer_process")
    return await asyncio.create_subprocess_exec(sys.executable, *module, cwd=ROOT, env=environment(settings))


async def upload(running: Delivering, title: str) -> None:
    """Put an uploaded video on the log."""
    video_id = new_id()
    event = VideoUploaded(video_id=video_id, title=title, filename="h.mp4", object_key=f"sources/{video_id}", size_bytes=1)
    await running.write(event, subject=video_id)


@pytest.mark.timeout(180 + 30 * ROUNDS)
async def test_killed_at_any_point_every_notice_arrives_signed_and_in_order(settings: Settings) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    async with receiving() as receiver, delivering(settings, send=False) as running:
        endpoint_id = await running.save(receiver.url())
        sent = 0
        for _ in range(ROUNDS):
            titles = [f"{sent + number}" for number in range(VIDEOS)]
            sent += VIDEOS
            for title in titles:
                await upload(running, title)
            process = await run(settings)
            goal = len(receiver.got) + rng.randint(1, VIDEOS - 1)
            await eventually(partial(has, receiver, goal))
            process.kill()
            await process.wait()
        process = await run(settings)
        expected = {str(number) for number in range(sent)}
        await eventually(lambda: {got.said["data"]["title"] for got in receiver.got}, lambda found: found == expected)
        await eventually(lambda: read_topic(settings, DELIVERIES.name), lambda facts: len({*ids(facts)}) == sent)
        process.kill()
        await process.wait()
        first: dict[str, str] = {}
        for got in receiver.got:
            running.verify(endpoint_id, got)
            title = got.said["data"]["title"]
            assert first.setdefault(title, got.id) == got.id, "a repetition has the same id"
        notices = [notice.envelope.data.about.title for notice in await read_topic(settings, "notices")]  # type: ignore[attr-defined]
        assert list(first) == list(dict.fromkeys(notices)), "first arrivals are in the order of the log"
        assert len(receiver.got) <= sent + ROUNDS * 65, "a kill repeats no more than waits for the log"


def has(receiver: Receiver, count: int) -> bool:
    """Return whether the receiver got so many messages."""
    return len(receiver.got) >= count


def ids(facts: Sequence[Recorded[Any]]) -> list[str]:
    """Return the ids of deliveries."""
    return [fact.envelope.data.delivery_id for fact in facts]


async def test_a_rebuild_sends_and_announces_nothing(settings: Settings) -> None:
    await ObjectStore(settings).ensure_bucket()
    async with receiving() as receiver, delivering(settings) as running:
        await running.save(receiver.url())
        for number in range(3):
            await upload(running, str(number))
        await eventually(lambda: len(receiver.got) == 3)
        await eventually(lambda: read_topic(settings, DELIVERIES.name), lambda facts: len(facts) == 3)
        async with postgres.connected(settings) as connection:
            for fold in (deliveries.PROJECTION, announcing.PROJECTION):
                async with open_history(settings) as history:
                    assert (await rebuild(fold, connection, history)).equal is True
        await upload(running, "3")
        await eventually(lambda: len(receiver.got) >= 4)
        assert sorted(got.said["data"]["title"] for got in receiver.got) == ["0", "1", "2", "3"]
        assert len(await read_topic(settings, "notices")) == 4

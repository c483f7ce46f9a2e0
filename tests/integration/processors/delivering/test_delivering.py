"""From an event of the log to a receiver, on the real log and database."""

import asyncio
import hmac
from datetime import timedelta

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from events.topics import DELIVERIES
from events.videos import VideoArchived, VideoRestored, VideoUploaded
from events.webhooks import RedeliveryRequested, WebhookTestRequested
from infra.runtime.clock import SystemClock, new_id
from infra.runtime.settings import Settings
from processors.delivering.decide import Policy
from producers.webhooks import Secret, new_secret
from projections.deliveries import projection as deliveries
from tests.support.log import read_topic
from tests.support.receiver import Delivering, Got, delivering, receiving
from tests.support.waiting import eventually


async def upload(running: Delivering, title: str = "Holiday") -> str:
    """Put an uploaded video on the log."""
    video_id = new_id()
    event = VideoUploaded(video_id=video_id, title=title, filename="h.mp4", object_key=f"sources/{video_id}", size_bytes=1)
    await running.write(event, subject=video_id)
    return video_id


async def test_an_event_reaches_its_receiver_signed_and_in_the_form_of_the_catalogue(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        endpoint_id = await running.save(receiver.url(), headers={"authorization": "Bearer abc"})
        video_id = await upload(running)
        (got,) = await eventually(lambda: receiver.at("/hook"))
        running.verify(endpoint_id, got)
        said = got.said
        assert said["type"] == "video.uploaded"
        assert said["data"] == {"video_id": video_id, "slug": said["data"]["slug"], "title": "Holiday", "filename": "h.mp4"}
        assert got.headers["authorization"] == "Bearer abc"
        assert got.headers["content-type"] == "application/json"


async def test_the_predecessors_form_and_signature(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        endpoint_id = await running.save(receiver.url(), format_="vlog")
        await upload(running)
        (got,) = await eventually(lambda: receiver.at("/hook"))
        secret = running.kept[endpoint_id].secrets[0].text
        assert got.headers["x-vlog-signature"] == "sha256=" + hmac.new(secret.encode(), got.body, "sha256").hexdigest()
        assert got.headers["x-vlog-event"] == got.said["event"] == "video.uploaded"
        assert got.said.keys() == {"id", "event", "timestamp", "attempt", "data"}
        assert (got.said["id"], got.said["attempt"]) == (got.headers["x-vlog-delivery-id"], 1)


async def test_an_endpoint_that_fails_is_tried_again_in_order_and_holds_up_no_other(settings: Settings) -> None:
    failures = 2

    def fail(got: Got) -> web.Response:
        nonlocal failures
        failures -= 1
        return web.Response(status=503 if failures >= 0 else 204, text="not yet")

    async with receiving() as receiver, delivering(settings, Policy("standard", jitter=0.0)) as running:
        receiver.behave["/failing"] = fail
        failing, healthy = await running.save(receiver.url("/failing")), await running.save(receiver.url("/healthy"))
        videos = [await upload(running, f"Video {number}") for number in range(3)]
        await eventually(lambda: len(receiver.at("/healthy")) == 3)
        assert len(receiver.at("/failing")) == 0
        await running.write(VideoArchived(video_id=videos[0]), subject=videos[0])
        await eventually(lambda: len(receiver.at("/healthy")) == 4)
        (first,) = await eventually(lambda: receiver.at("/failing", taken=False))
        async with running.pool.connection() as connection:
            row = await eventually(lambda: deliveries.endpoint(connection, failing), lambda row: row and row.retry_at)
            assert row is not None
            page = await deliveries.page(connection, failing, now=SystemClock().now(), limit=10)
        assert [(one.status, one.response_status, one.answer) for one in page] == [("retrying", 503, "not yet")]
        assert first.id == page[0].delivery_id
        assert healthy != failing
        second = await eventually(lambda: receiver.at("/failing", taken=False), lambda got: len(got) > 1, timeout_s=30)
        assert second[1].id == first.id
        assert second[1].headers["webhook-timestamp"] > first.headers["webhook-timestamp"], "each attempt is signed anew"
        running.verify(failing, second[1])


async def test_a_paused_endpoint_goes_on_at_its_place_and_a_new_one_may_have_the_past(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        endpoint_id = await running.save(receiver.url("/a"))
        first = await upload(running, "first")
        await eventually(lambda: len(receiver.at("/a")) == 1)
        await running.save(receiver.url("/a"), endpoint_id=endpoint_id, active=False)
        await eventually(lambda: read_topic(settings, "webhooks"), lambda events: len(events) == 2)
        missed = [await upload(running, f"missed {number}") for number in range(5)]
        other = await running.save(receiver.url("/b"))
        last = await upload(running, "last")
        await eventually(lambda: len(receiver.at("/b")) == 1)
        assert len(receiver.at("/a")) == 1
        await running.save(receiver.url("/a"), endpoint_id=endpoint_id)
        got = await eventually(lambda: receiver.at("/a"), lambda got: len(got) == 7)
        notices = await read_topic(settings, "notices")
        told = [notice.envelope.data.subject_id for notice in notices]  # type: ignore[attr-defined]
        assert set(told) == {first, *missed, last}
        assert [one.said["data"]["video_id"] for one in got] == told
        since = SystemClock().now() - timedelta(days=7)
        await running.write(RedeliveryRequested(endpoint_id=other, request_id="r1", since=since), subject=other)
        got = await eventually(lambda: receiver.at("/b"), lambda got: len(got) == 8)
        assert [one.said["data"]["video_id"] for one in got] == [last, *told]
        assert got[0].id in {one.id for one in got[1:]}, "a receiver knows the repetition by its id"
        event_id = notices[2].envelope.data.event_id  # type: ignore[attr-defined]
        await running.write(RedeliveryRequested(endpoint_id=other, request_id="r2", event_id=event_id), subject=other)
        got = await eventually(lambda: receiver.at("/b"), lambda got: len(got) == 9)
        assert got[-1].id == got[3].id


async def test_a_test_is_sent_also_to_a_paused_endpoint_and_counts_nowhere(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        endpoint_id = await running.save(receiver.url(), active=False)
        await running.write(WebhookTestRequested(endpoint_id=endpoint_id, request_id="r1"), subject=endpoint_id)
        (got,) = await eventually(lambda: receiver.at("/hook"))
        running.verify(endpoint_id, got)
        assert (got.said["type"], got.said["data"]["test"]) == ("video.ready", True)
        async with running.pool.connection() as connection:
            row = await eventually(lambda: deliveries.endpoint(connection, endpoint_id), lambda row: row and row.answered)
        assert row is not None
        assert (row.delivered, row.failed, row.cursor) == (0, 0, 0)


async def test_both_secrets_sign_while_one_replaces_the_other(settings: Settings) -> None:
    old, new = new_secret("standard"), new_secret("standard")
    until = SystemClock().now() + timedelta(hours=1)
    async with receiving() as receiver, delivering(settings) as running:
        await running.save(receiver.url(), secrets=(Secret(text=new), Secret(text=old, until=until)))
        await upload(running)
        (got,) = await eventually(lambda: receiver.at("/hook"))
        for secret in (old, new):
            Webhook(secret).verify(got.body, dict(got.headers))


async def test_410_ends_an_endpoint_and_a_new_version_goes_on(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        receiver.behave["/gone"] = lambda got: web.Response(status=410)
        endpoint_id = await running.save(receiver.url("/gone"))
        await upload(running, "one")
        await upload(running, "two")
        async with running.pool.connection() as connection:
            row = await eventually(lambda: deliveries.endpoint(connection, endpoint_id), lambda row: row and row.gone)
        assert row is not None
        assert row.paused == "gone"
        await running.save(receiver.url("/here"), endpoint_id=endpoint_id)
        got = await eventually(lambda: receiver.at("/here"), lambda got: len(got) == 2)
        assert sorted(one.said["data"]["title"] for one in got) == ["one", "two"], "videos have no order among themselves"
        assert len(receiver.at("/gone", taken=False)) == 1


async def test_a_slow_receiver_is_away_and_a_long_answer_is_cut(settings: Settings) -> None:
    looked = asyncio.Event()

    async def slow(got: Got) -> web.Response:
        await looked.wait()
        return web.Response()

    async with receiving() as receiver, delivering(settings, timeout_s=0.3) as running:
        receiver.behave |= {"/slow": slow, "/long": lambda got: web.Response(text="ä" * 10_000)}
        slow_id, long_id = await running.save(receiver.url("/slow")), await running.save(receiver.url("/long"))
        await upload(running)
        async with running.pool.connection() as connection:
            now = SystemClock().now()
            (late,) = await eventually(lambda: deliveries.page(connection, slow_id, now=now, limit=5))
            (cut,) = await eventually(lambda: deliveries.page(connection, long_id, now=now, limit=5))
        looked.set()
        assert (late.status, late.error, late.response_status) == ("retrying", "no answer within 0.3 s", None)
        assert (cut.status, cut.answer) == ("delivered", "ä" * 2000)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(settings: Settings, status: int) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        receiver.behave["/hook"] = lambda got: web.Response(status=status, headers={"Location": receiver.url("/other")})
        await running.save(receiver.url())
        await upload(running)
        facts = await eventually(lambda: read_topic(settings, DELIVERIES.name))
        assert facts[0].envelope.data.status == status  # type: ignore[attr-defined]
        assert receiver.at("/other", taken=False) == []


async def test_a_video_that_is_archived_and_restored_is_told_in_order(settings: Settings) -> None:
    async with receiving() as receiver, delivering(settings) as running:
        await running.save(receiver.url(), events=("video.deleted", "video.rest*"))
        video_id = await upload(running)
        await running.write(VideoArchived(video_id=video_id), VideoRestored(video_id=video_id), subject=video_id)
        await running.write(VideoArchived(video_id=video_id), subject=video_id)
        got = await eventually(lambda: receiver.at("/hook"), lambda got: len(got) == 3)
        assert [one.said["type"] for one in got] == ["video.deleted", "video.restored", "video.deleted"]

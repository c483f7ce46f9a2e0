"""Endpoints through the admin app, with a deliverer and a receiver: everything that an administrator does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from events.videos import VideoUploaded
from infra.runtime.clock import SystemClock, new_id
from infra.runtime.outside import Outside
from infra.runtime.settings import Settings
from tests.support import tools
from tests.support.apps import TOKEN, make
from tests.support.log import read_topic
from tests.support.receiver import LOOPBACK, Delivering, Receiver, delivering, receiving
from tests.support.waiting import eventually


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Receiver, Delivering]]:
    """Run everything; yield a client of the admin app."""
    async with receiving() as receiver, delivering(settings) as running:
        outside = Outside((LOOPBACK,), 2.0)
        parts = {"pool": running.pool, "append": running.append, "endpoints": running.table, "check_url": outside.check_url}
        transport = httpx.ASGITransport(app=make("admin", **parts))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://admin/api", headers=headers, timeout=60) as http:
            yield http, receiver, running
        await outside.close()


async def upload(running: Delivering, title: str) -> str:
    """Put an uploaded video on the log."""
    video_id = new_id()
    event = VideoUploaded(video_id=video_id, title=title, filename="h.mp4", object_key=f"sources/{video_id}", size_bytes=1)
    await running.write(event, subject=video_id)
    return video_id


async def made(http: httpx.AsyncClient, url: str, **more: Any) -> Any:
    """Make an endpoint; return the answer."""
    answer = await http.post("/webhooks", json={"name": "receiver", "url": url, "events": ["video.*"], **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_life_of_an_endpoint(settings: Settings) -> None:
    async with administering(settings) as (http, receiver, running):
        one = await made(http, receiver.url("/a"), headers={"Authorization": "Bearer abc"})
        assert one["secret"].startswith("whsec_")
        assert (one["url"], one["headers"], one["has_secret"], one["paused"]) == (receiver.url("/a"), ["authorization"], True, None)
        shown = (await http.get(f"/webhooks/{one['id']}")).json()
        assert "secret" not in shown

        test = (await http.post(f"/webhooks/{one['id']}/test", json={"event_type": "video.ready"})).json()
        assert (test["success"], test["status_code"]) == (True, 204)
        assert receiver.got[0].headers["authorization"] == "Bearer abc"

        changed = {"name": "other", "url": receiver.url("/b"), "events": ["video.uploaded"], "active": False}
        answer = (await http.put(f"/webhooks/{one['id']}", json=changed)).json()
        assert (answer["name"], answer["paused"], answer["headers"]) == ("other", "inactive", ["authorization"])
        await upload(running, "first")
        await eventually(lambda: read_topic(settings, "notices"))
        changed["active"] = True
        await http.put(f"/webhooks/{one['id']}", json=changed)
        (got,) = await eventually(lambda: receiver.at("/b"))
        Webhook(one["secret"]).verify(got.body, dict(got.headers))

        page = await eventually(lambda: deliveries_of(http, one["id"]))
        assert [(row["status"], row["event_type"], row["response_status"]) for row in page] == [
            ("delivered", "video.uploaded", 204)
        ]
        path = f"/webhooks/{one['id']}/deliveries/{page[0]['id']}"
        assert (await http.get(path)).json() == page[0]
        assert (await http.post(f"{path}/retry")).status_code == 202
        again = await eventually(lambda: receiver.at("/b"), lambda got: len(got) == 2)
        assert again[1].id == got.id == page[0]["id"]

        stats = (await http.get("/webhooks/stats")).json()
        assert (stats["total_webhooks"], stats["active_webhooks"], stats["total_deliveries_24h"]) == (1, 1, 1)
        listed = (await http.get("/webhooks")).json()
        assert (listed["total_count"], listed["webhooks"][0]["id"]) == (1, one["id"])
        assert (await http.delete(f"/webhooks/{one['id']}")).status_code == 204
        assert (await http.get(f"/webhooks/{one['id']}")).status_code == 404
        assert (await http.get("/webhooks")).json()["total_count"] == 0
        assert await running.table.find(one["id"], "") is None
        log = await read_topic(settings, "webhooks")
        assert not any(
            one["secret"] in str(event) or "Bearer abc" in str(event) or "/a" in str(event.envelope.data) for event in log
        )


async def deliveries_of(http: httpx.AsyncClient, endpoint_id: str, **given: Any) -> list[Any]:
    """Return the history of an endpoint."""
    found: list[Any] = (await http.get(f"/webhooks/{endpoint_id}/deliveries", params=given)).json()["items"]
    return found


async def test_last_weeks_events_go_to_a_new_endpoint_and_both_verifiers_accept_everything(settings: Settings) -> None:
    async with administering(settings) as (http, receiver, running):
        failures = iter([500, 503, 200] * 3)
        receiver.behave["/old"] = lambda got: web.Response(status=next(failures, 200))
        old = await made(http, receiver.url("/old"))
        titles = [f"Video {number} – „ä€🎬“" for number in range(6)]
        for title in titles:
            await upload(running, title)
        await eventually(lambda: read_topic(settings, "notices"), lambda notices: len(notices) == 6)
        new = await made(http, receiver.url("/new"))
        rotated = (await http.post(f"/webhooks/{new['id']}/rotate", json={"overlap_s": 3600})).json()
        assert rotated["secret"] != new["secret"]
        since = (SystemClock().now() - timedelta(days=7)).isoformat()
        assert (await http.post(f"/webhooks/{new['id']}/redeliver", json={"since": since})).status_code == 202
        got = await eventually(lambda: receiver.at("/new"), lambda got: len(got) == 6)
        assert {one.said["data"]["title"] for one in got} == set(titles)
        assert (await http.post(f"/webhooks/{new['id']}/redeliver", json={"position": 3})).status_code == 202
        got = await eventually(lambda: receiver.at("/new"), lambda got: len(got) == 9)
        assert [one.id for one in got[6:]] == [one.id for one in got[3:6]]
        await eventually(lambda: receiver.at("/old", taken=False), lambda got: len(got) >= 2)
        sent = [
            {"secret": secret, "body": one.body.decode(), "headers": dict(one.headers)}
            for path, secrets in (("/old", [old["secret"]]), ("/new", [new["secret"], rotated["secret"]]))
            for one in receiver.at(path, taken=False)
            for secret in secrets
        ]
        assert len(sent) >= 20
        for one in sent:
            Webhook(one["secret"]).verify(one["body"], one["headers"])
        assert tools.webhooks(sent) == [None] * len(sent)
        forged = [{**one, "body": one["body"].replace("Video", "Forged")} for one in sent]
        assert None not in tools.webhooks(forged)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://10.0.0.1/hook"},
        {"url": "http://[::ffff:169.254.169.254]/"},
        {"url": "ftp://example.org/"},
        {"headers": {"Host": "other"}},
        {"headers": {"webhook-id": "x"}},
        {"headers": {"X-Forwarded-For": "x"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"a b": "c"}},
        {"secret": "short"},
        {"secret": "whsec_dG9vc2hvcnQ="},
        {"events": []},
        {"events": ["video.*"] * 21},
        {"name": ""},
        {"format": "discord"},
        {"unknown": 1},
    ],
)
async def test_what_cannot_be_kept_is_refused(settings: Settings, wrong: dict[str, Any]) -> None:
    async def append(*_: object) -> Any:
        raise AssertionError("nothing may be written")

    class Reads:
        """Nothing is read, either: what is wrong in itself is refused first."""

    outside = Outside((LOOPBACK,), 2.0)
    app = make("admin", pool=Reads(), append=append, check_url=outside.check_url)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://admin/api") as http:
        wanted = {"name": "receiver", "url": "http://127.0.0.1/", "events": ["video.*"], **wrong}
        answer = await http.post("/webhooks", json=wanted, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 422, answer.text


async def test_what_is_not_there_is_not_found_and_a_wish_has_one_place(settings: Settings) -> None:
    async with administering(settings) as (http, receiver, _running):
        one = await made(http, receiver.url())
        for path in ("/unknown", "/unknown/deliveries", f"/{one['id']}/deliveries/unknown"):
            assert (await http.get(f"/webhooks{path}")).status_code == 404
        for wish in ({}, {"since": "2026-01-01T00:00:00Z", "position": 1}):
            assert (await http.post(f"/webhooks/{one['id']}/redeliver", json=wish)).status_code == 422

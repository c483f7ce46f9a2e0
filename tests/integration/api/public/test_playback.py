"""Streams over HTTP, as the predecessor's players send them: cookies, tokens, bytes, and everything that is refused."""

from collections.abc import AsyncIterator

import httpx
import pytest

from api.public.playback import COOKIE
from events.media import PlanSettings
from events.streams import StreamEnded, StreamFailed, StreamStarted, StreamTicked
from infra.runtime import postgres
from infra.runtime.settings import Settings
from infra.runtime.viewers import Viewers
from tests.support.footage import VIDEO_ID
from tests.support.presentation import Presentation, make_presentation
from tests.support.theatre import Theatre, theatre

SESSION, HEARTBEAT, END = "/api/analytics/session", "/api/analytics/heartbeat", "/api/analytics/end"


@pytest.fixture(scope="session")
async def clip(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """One chunk."""
    return await make_presentation(tmp_path_factory.mktemp("clip"), PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast"), 3)


@pytest.fixture
async def there(settings: Settings, clip: Presentation) -> AsyncIterator[Theatre]:
    """The app, and a clip for everybody."""
    async with theatre(settings, clip) as found:
        await found.show_to("public")
        yield found


@pytest.fixture
async def http(there: Theatre) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a login."""
    async with httpx.AsyncClient(base_url=there.base, timeout=60) as found:
        yield found


async def begin(http: httpx.AsyncClient, **more: object) -> str:
    """Begin a stream; return its token."""
    answer = await http.post(SESSION, json={"video_id": VIDEO_ID, **more}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_token"])


async def test_a_players_signs_of_life_become_events_and_a_browser_stays_the_same_viewer(
    there: Theatre, http: httpx.AsyncClient
) -> None:
    token = await begin(http, quality="720p", position=1.5)
    cookie = http.cookies[COOKIE]
    beat = {"session_token": token, "position": 2.25, "playing": True, "quality": "720p", "unknown": 1}
    assert (await http.post(HEARTBEAT, json=beat)).json() == {"status": "ok"}
    beacon = f'{{"session_token": "{token}", "position": 3}}'
    assert (await http.post(END, content=beacon, headers={"content-type": "text/plain;charset=UTF-8"})).status_code == 200
    started, ticked, ended = (envelope.data for envelope in there.streams)
    assert isinstance(started, StreamStarted) and isinstance(ticked, StreamTicked) and isinstance(ended, StreamEnded)
    assert (started.video_id, started.position_ms, started.quality) == (VIDEO_ID, 1500, "720p")
    assert (ticked.position_ms, ticked.state, ended.position_ms) == (2250, "playing", 3000)
    assert {envelope.subject for envelope in there.streams} == {started.viewer_id}
    await begin(http)
    again = there.streams[-1].data
    assert isinstance(again, StreamStarted) and again.viewer_id == started.viewer_id and again.session_id != started.session_id
    assert cookie not in str(there.streams) and http.cookies[COOKIE] == cookie
    http.cookies.clear()
    await begin(http, fault="x")
    stranger = there.streams[-1].data
    assert isinstance(stranger, StreamStarted) and stranger.viewer_id != started.viewer_id


async def test_a_person_is_one_viewer_on_every_device_until_they_are_forgotten(there: Theatre, settings: Settings) -> None:
    for _device in range(2):
        async with there.viewer("anna") as http:
            await begin(http)
            assert COOKIE not in http.cookies
    (viewer_id,) = {envelope.subject for envelope in there.streams}
    assert "anna" not in str(there.streams) and {envelope.actor for envelope in there.streams} == {"system:tests"}
    pool = await postgres.open_pool(settings)
    try:
        viewers = Viewers(pool)
        assert await viewers.users([viewer_id, "other"]) == {viewer_id: "anna"}
        assert await viewers.viewer_of("anna") == viewer_id
        assert await viewers.forget(viewer_id) and not await viewers.forget(viewer_id)
        assert await viewers.users([viewer_id]) == {} and await viewers.viewer_of("anna") is None
    finally:
        await pool.close()
    async with there.viewer("anna") as http:
        await begin(http)
    assert there.streams[-1].subject != viewer_id, "a forgotten person comes back as somebody else"


async def test_a_fault_of_a_player_is_an_event(there: Theatre, http: httpx.AsyncClient) -> None:
    token = await begin(http)
    assert (await http.post(END, json={"session_token": token, "position": 1, "fault": "no decoder"})).status_code == 200
    failed = there.streams[-1].data
    assert isinstance(failed, StreamFailed) and failed.fault == "no decoder"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (SESSION, "{", 422, "JSON"),
        (SESSION, "[]", 422, ""),
        (SESSION, '{"video_id": "nobody-has-this"}', 404, "there is no video"),
        (SESSION, '{"video_id": "' + VIDEO_ID + '", "position": -1}', 422, "position"),
        (HEARTBEAT, '{"position": 1}', 422, "session token"),
        (HEARTBEAT, '{"session_token": "a.b.c", "position": 1}', 422, "begin another session"),
        (HEARTBEAT, '{"session_token": "a.b.c", "position": 1e999}', 422, "position"),
        (END, '{"session_token": "' + "x" * 100 + '"}', 422, "64"),
    ],
)
async def test_nonsense_is_refused_with_a_sentence_and_nothing_is_written(
    there: Theatre, http: httpx.AsyncClient, path: str, body: str, status: int, words: str
) -> None:
    answer = await http.post(path, content=body)
    assert (answer.status_code, there.streams) == (status, []), answer.text
    assert words in answer.json()["detail"]


async def test_nobody_begins_a_stream_of_a_video_that_they_may_not_watch(there: Theatre, http: httpx.AsyncClient) -> None:
    await there.show_to("private")
    assert (await http.post(SESSION, json={"video_id": VIDEO_ID})).status_code == 404
    assert there.streams == [] and COOKIE not in http.cookies

"""Private videos: nobody finds them, their viewers play them, and people who lose the right are out."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from api.identity import COOKIE
from api.public.media import REMEMBERED
from api.public.signatures import ROUNDING
from events.media import PlanSettings
from events.people import RoleChanged, SessionEnded, UserDisabled
from events.videos import VideoArchived, VideoRestored
from infra.runtime.objects import ObjectStore
from infra.runtime.settings import Settings
from processors.files import act_with
from processors.planning import process as planning
from projections.folding.runner import install
from tests.support.apps import PUBLIC, TOKEN
from tests.support.footage import VIDEO_ID, id_of
from tests.support.presentation import Presentation, make_presentation
from tests.support.theatre import Theatre, theatre
from tests.support.work import ffmpeg_path

UNKNOWN = "no-such-video-00000000"
SECONDS = 7


@pytest.fixture(scope="session")
async def film(tmp_path_factory: pytest.TempPathFactory) -> Presentation:
    """Two chunks, with sound."""
    settings = PlanSettings(segment_s=2, chunk_s=4, preset="ultrafast")
    return await make_presentation(tmp_path_factory.mktemp("film"), settings, SECONDS)


@pytest.fixture
async def there(settings: Settings, film: Presentation) -> AsyncIterator[Theatre]:
    """The app, and the film, which is private."""
    async with theatre(settings, film) as found:
        yield found


@pytest.fixture
async def nobody(there: Theatre) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a login."""
    async with httpx.AsyncClient(base_url=there.base, timeout=60) as http:
        yield http


def paths(slug: str) -> list[str]:
    return [
        *(f"/api/videos/{slug}", f"/watch/{slug}", f"/videos/{slug}/master.m3u8"),
        *(f"/videos/{slug}/manifest.mpd", f"/videos/{slug}/360p.m3u8"),
    ]


async def segment_of(http: httpx.AsyncClient, slug: str) -> str:
    """Return the path of a first segment, as a player comes to it."""
    found = await http.get(f"/videos/{slug}/master.m3u8", follow_redirects=True)
    address = urljoin(str(found.url), m3u8.loads(found.raise_for_status().text).playlists[0].uri)
    media = (await http.get(address)).raise_for_status()
    return str(urljoin(address, m3u8.loads(media.text).segments[0].uri)).removeprefix(str(http.base_url).rstrip("/"))


async def listed(http: httpx.AsyncClient, **params: str) -> list[str]:
    return [item["slug"] for item in (await http.get("/api/videos", params=params)).raise_for_status().json()["items"]]


async def status_of(http: httpx.AsyncClient, path: str) -> int:
    return (await http.get(path)).status_code


async def test_nobody_finds_it_and_its_answers_are_those_of_an_unknown_one(there: Theatre, nobody: httpx.AsyncClient) -> None:
    assert await listed(nobody) == await listed(nobody, q="t") == []
    for path, unknown in zip(paths(there.slug), paths(UNKNOWN), strict=True):
        answer, other = await nobody.get(path), await nobody.get(unknown)
        assert (answer.status_code, answer.text.replace(there.slug, UNKNOWN)) == (404, other.text), path
    for token in ("", TOKEN):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        embed = await nobody.get("/oembed", params={"url": f"{there.base}/watch/{there.slug}"}, headers=headers)
        assert embed.status_code == 404, "previews are for other sites, whoever asks"
    assert [(event.app, event.reason, event.status) for event in there.refused] == [("public", "video_private", 404)]


async def test_its_viewers_get_signed_paths_which_they_share(there: Theatre, nobody: httpx.AsyncClient) -> None:
    async with there.viewer("greta") as greta, there.viewer("hans") as hans:
        await there.show_to("private", users=("greta",))
        assert (await listed(greta, q="t"), await listed(hans)) == ([there.slug], [])
        page = await greta.get(f"/watch/{there.slug}")
        assert (page.status_code, page.headers["cache-control"], page.headers["x-robots-tag"]) == (
            200,
            "private, no-store",
            "noindex",
        )
        assert "og:" not in page.text and "oembed" not in page.text
        assert (await greta.get(f"/api/videos/{there.slug}")).headers["cache-control"] == "private, no-store"
        moved = await greta.get(f"/videos/{there.slug}/master.m3u8")
        assert (moved.status_code, moved.headers["cache-control"]) == (302, "private, no-store")
        assert moved.headers["location"].startswith("../../media/~")
        direct = await greta.get(f"/videos/{there.slug}/manifest.mpd")
        assert (direct.status_code, direct.headers["cache-control"]) == (200, "private, no-store")
        assert "../../media/~" in direct.text
        segment = await segment_of(greta, there.slug)
        found = await nobody.get(segment)
        life_s = int(found.headers["cache-control"].removeprefix("public, max-age=").removesuffix(", immutable"))
        assert found.status_code == 200 and life_s <= PUBLIC.private_media_ttl_s * (1 + 1 / ROUNDING)
        await there.show_to("private", roles=("viewer",))
        assert await listed(hans) == [there.slug]
        assert await segment_of(hans, there.slug) == segment, "a cache serves both"


async def test_guessed_tampered_and_expired_paths_are_refused(there: Theatre, nobody: httpx.AsyncClient) -> None:
    async with there.viewer("ida", "analyst") as ida:
        segment = await segment_of(ida, there.slug)
        _, _, proof, rest = segment.split("/", 3)
        signature, expiry = proof.split(".")
        assert (await nobody.get(segment)).status_code == 200
        assert (await ida.get(f"/media/{rest}")).status_code == 404, "without a signature, whoever asks"
        other = rest.replace(VIDEO_ID, id_of("other"))
        for path in (f"{proof}/{other}", f"~{'A' * 22}.{expiry}/{rest}", f"{proof}9/{rest}", f"{signature}.1/{rest}"):
            refused = await nobody.get(f"/media/{path}")
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json"), path
        reasons = {(event.reason, event.status) for event in there.refused}
        assert reasons == {("media_unsigned", 404), ("media_signature_wrong", 403), ("media_signature_expired", 403)}
        there.later = timedelta(seconds=PUBLIC.private_media_ttl_s * (1 + 1 / ROUNDING))
        assert await status_of(nobody, segment) == 403


@pytest.mark.parametrize("how", ["session", "role", "disabled", "archived"])
async def test_people_who_lose_the_right_are_out_at_the_next_request(there: Theatre, how: str) -> None:
    async with there.viewer("judith", "operator") as judith:
        assert {await status_of(judith, path) for path in paths(there.slug)[:4]} == {200, 302}
        if how == "session":
            there.follow(SessionEnded(session_id="judith", user_id="judith", because="logout"))
        elif how == "role":
            there.follow(RoleChanged(user_id="judith", role="viewer"))
        elif how == "disabled":
            there.follow(UserDisabled(user_id="judith"))
        else:
            await there.happens(VideoArchived(video_id=VIDEO_ID))
        assert {await status_of(judith, path) for path in paths(there.slug)} == {404}


async def test_paths_that_were_known_end_when_it_becomes_private_or_archived(there: Theatre, nobody: httpx.AsyncClient) -> None:
    await there.show_to("public")
    segment = await segment_of(nobody, there.slug)
    assert await status_of(nobody, segment) == 200
    await there.show_to("private", roles=("viewer",))
    there.later += REMEMBERED
    assert await status_of(nobody, segment) == 404
    async with there.viewer("karl") as karl:
        signed = await segment_of(karl, there.slug)
        assert await status_of(karl, signed) == 200
        await there.happens(VideoArchived(video_id=VIDEO_ID))
        there.later += REMEMBERED
        assert await status_of(karl, signed) == 404


async def test_an_unlisted_one_is_found_by_its_address_alone(there: Theatre, nobody: httpx.AsyncClient) -> None:
    await there.show_to("unlisted")
    assert await listed(nobody) == []
    page = await nobody.get(f"/watch/{there.slug}")
    assert (page.status_code, page.headers["x-robots-tag"]) == (200, "noindex")
    assert await status_of(nobody, await segment_of(nobody, there.slug)) == 200
    await there.show_to("public")
    assert "x-robots-tag" not in (await nobody.get(f"/watch/{there.slug}")).headers


async def test_wrong_tokens_are_refused_and_old_cookies_are_nobodys(there: Theatre, nobody: httpx.AsyncClient) -> None:
    assert (await nobody.get("/api/videos", headers={"Authorization": "Bearer kt_wrong"})).status_code == 401
    old = await nobody.get("/api/videos", headers={"Cookie": f"{COOKIE}=old"})
    assert (old.status_code, old.json()["items"]) == (200, [])
    found = await nobody.get("/api/videos", headers={"Authorization": f"Bearer {TOKEN}"})
    assert [item["slug"] for item in found.json()["items"]] == [there.slug]


async def test_by_redirect_the_store_answers_no_longer_than_the_path(settings: Settings, film: Presentation) -> None:
    async with (
        theatre(settings, film, media_delivery="redirect", presign_ttl_s=7200) as there,
        there.viewer("lena", "analyst") as http,
    ):
        segment = await segment_of(http, there.slug)
        moved = await http.get(segment)
        assert moved.status_code == 302
        life_s = int(httpx.URL(moved.headers["location"]).params["X-Amz-Expires"])
        assert life_s <= PUBLIC.private_media_ttl_s * (1 + 1 / ROUNDING) < 7200
        assert (await http.get(moved.headers["location"])).status_code == 200
        assert await status_of(http, segment.replace("/~", "/~x")) == 403


@pytest.mark.parametrize("name", ["master.m3u8", "manifest.mpd"])
async def test_ffmpeg_and_mpv_play_it_with_the_cookie(there: Theatre, name: str) -> None:
    (cookie,) = there.login("mia", "operator").items()
    header = f"Cookie: {'='.join(cookie)}"
    address = f"{there.base}/videos/{there.slug}/{name}"
    played = await run(ffmpeg_path(), "-v", "warning", "-xerror", "-headers", f"{header}\r\n", "-i", address, "-f", "null", "-")
    assert (played.returncode, played.stderr) == (0, "")
    quiet = "--no-config", "--vo=null", "--ao=null", "--speed=4", "--term-status-msg=at ${=time-pos}"
    seen = await run("mpv", *quiet, f"--http-header-fields={header}", address)
    assert seen.returncode == 0 and f"at {SECONDS - 1}." in seen.stdout + seen.stderr, seen
    refused = await run(ffmpeg_path(), "-v", "error", "-i", address, "-f", "null", "-")
    assert refused.returncode != 0 and "404" in refused.stderr


async def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a player."""
    return await asyncio.to_thread(partial(subprocess.run, command, capture_output=True, text=True, check=False, timeout=120))


async def test_the_store_has_manifests_of_what_anybody_may_watch(there: Theatre, settings: Settings) -> None:
    store = ObjectStore(settings)
    act = act_with(there.pool, store)
    async with there.pool.connection() as connection:
        await install(connection, planning.PROJECTION)

    async def copies() -> set[str]:
        keys = [stored.key for stored in await store.under(f"videos/{VIDEO_ID}/")]
        return {key.rpartition("/")[2] for key in keys if key.endswith((".m3u8", ".mpd"))}

    await act(await there.show_to("unlisted"))
    shown = await copies()
    assert {"master.m3u8", "manifest.mpd", "240p.m3u8"} <= shown
    for hide, show in (
        (partial(there.show_to, "private"), partial(there.show_to, "public")),
        (partial(there.happens, VideoArchived(video_id=VIDEO_ID)), partial(there.happens, VideoRestored(video_id=VIDEO_ID))),
    ):
        await act(await hide())
        assert await copies() == set()
        await act(await show())
        assert await copies() == shown

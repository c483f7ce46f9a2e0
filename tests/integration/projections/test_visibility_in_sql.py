"""The condition `listable` of the catalog's pages, and the function `may_list`, on every kind of video for every kind of viewer."""

from itertools import product
from typing import Any

import pytest
from psycopg import AsyncConnection

from events.envelope import Event, Recorded
from events.people import Role
from events.videos import VideoArchived, VideoPublished, VideoPurged, VideoUploaded, VideoVisibilityChanged, Visibility
from infra.runtime.settings import Settings
from projections import catalog
from projections.visibility import Viewer, may_list
from tests.support.feeding import write
from tests.support.footage import id_of, recorded

VISIBILITIES: tuple[Visibility, ...] = ("public", "unlisted", "private")
ROLES: tuple[tuple[Role, ...], ...] = ((), ("viewer",), ("analyst", "viewer"))
USERS = ((), ("anna",), ("ben", "anna"))
LIVES: tuple[tuple[type[Event], ...], ...] = ((), (VideoPublished,), (VideoPublished, VideoArchived), (VideoPublished, VideoPurged))
KINDS = list(product(LIVES, VISIBILITIES, ROLES, USERS))
WITH_ROLES: tuple[Role | None, ...] = (None, "viewer", "operator")
VIEWERS = [Viewer(user, role, everything) for user, role, everything in product((None, "anna", "eve"), WITH_ROLES, (False, True))]


def life(number: int) -> list[Recorded[Event]]:
    """Return the events of a video of one kind."""
    after, visibility, roles, users = KINDS[number]
    video_id = id_of(f"video {number}")
    events: list[Event] = [
        VideoUploaded(video_id=video_id, title="Film", filename="f", object_key="k", size_bytes=1),
        VideoVisibilityChanged(video_id=video_id, visibility=visibility, roles=roles, users=users),
    ]
    details = {"duration_ms": 1, "rungs": ("360p",)}
    events += [kind(video_id=video_id, **(details if kind is VideoPublished else {})) for kind in after]
    return [recorded(event, 0, topic="videos", at_s=number, name=f"{number} {event.TYPE}") for event in events]


@pytest.mark.parametrize("query", ["", "film"])
async def test_pages_have_the_videos_that_the_function_lists(settings: Settings, query: str) -> None:
    url = settings.postgres_url.get_secret_value()
    async with await AsyncConnection.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        await write(connection, catalog.PROJECTION, [event for number in range(len(KINDS)) for event in life(number)])
        videos = [found for number in range(len(KINDS)) if (found := await catalog.by_id(connection, id_of(f"video {number}")))]
        assert len(videos) == len(KINDS)
        for viewer in VIEWERS:
            assert await listed(connection, viewer, query) == [
                video.video_id for video in reversed(videos) if may_list(video, viewer)
            ], viewer


async def listed(connection: AsyncConnection[Any], viewer: Viewer, query: str) -> list[str]:
    """Return all pages."""
    found: list[str] = []
    after = None
    while page := await catalog.page(connection, viewer=viewer, limit=50, after=after, query=query):
        found += [video.video_id for video in page]
        assert page[-1].uploaded_at is not None
        after = page[-1].uploaded_at, page[-1].video_id
    return found

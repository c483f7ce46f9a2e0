"""Who may watch and who finds a video: given a video and a viewer, then yes or no."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.people import Role
from events.videos import VideoArchived, VideoUploaded, VideoVisibilityChanged, Visibility
from projections import catalog
from projections.catalog import Status, Video
from projections.visibility import NOBODY, Viewer, may_list, may_watch
from tests.support.folding import folded
from tests.support.footage import VIDEO_ID, recorded

ANNA = Viewer("anna", "viewer")
READER = Viewer(everything=True)
READY = Video(VIDEO_ID, "slug", "ready")
ROLES = st.sets(st.sampled_from(get_args(Role))).map(tuple)
USERS = st.sets(st.sampled_from(("anna", "ben"))).map(tuple)
VIDEOS = st.builds(
    replace,
    st.just(READY),
    status=st.sampled_from(get_args(Status)),
    archived=st.booleans(),
    visibility=st.sampled_from(get_args(Visibility)),
    roles=ROLES,
    users=USERS,
)
VIEWERS = st.builds(Viewer, st.sampled_from((None, "anna", "ben")), st.sampled_from((None, *get_args(Role))), st.booleans())


@pytest.mark.parametrize(
    ("video", "viewer", "watches", "lists"),
    [
        (READY, NOBODY, True, True),
        (replace(READY, status="processing"), NOBODY, True, False),
        (replace(READY, archived=True), READER, False, False),
        (replace(READY, status="purged"), READER, False, False),
        (replace(READY, visibility="unlisted"), NOBODY, True, False),
        (replace(READY, visibility="unlisted"), READER, True, False),
        (replace(READY, visibility="private"), NOBODY, False, False),
        (replace(READY, visibility="private"), ANNA, False, False),
        (replace(READY, visibility="private"), READER, True, True),
        (replace(READY, visibility="private", roles=("viewer",)), ANNA, True, True),
        (replace(READY, visibility="private", roles=("viewer",)), NOBODY, False, False),
        (replace(READY, visibility="private", users=("anna",)), ANNA, True, True),
        (replace(READY, visibility="private", users=("anna",)), Viewer("ben", "viewer"), False, False),
    ],
)
def test_a_video_is_for_those_whom_its_visibility_names(video: Video, viewer: Viewer, watches: bool, lists: bool) -> None:
    assert (may_watch(video, viewer), may_list(video, viewer)) == (watches, lists)


@given(VIDEOS, VIEWERS)
def test_a_login_never_takes_a_video_away_and_lists_show_no_more_than_addresses(video: Video, viewer: Viewer) -> None:
    assert may_watch(video, viewer) >= may_watch(video, NOBODY)
    assert may_list(video, viewer) <= may_watch(video, viewer)
    if video.archived or video.status == "purged":
        assert not may_watch(video, viewer)


def test_the_catalog_keeps_the_latest_visibility_and_an_old_upload_is_public() -> None:
    upload = VideoUploaded(video_id=VIDEO_ID, title="t", filename="f", object_key="k", size_bytes=1)
    private = VideoVisibilityChanged(video_id=VIDEO_ID, visibility="private", roles=("viewer",), users=("anna",))

    def row(*events: VideoUploaded | VideoVisibilityChanged | VideoArchived) -> Video:
        log = [recorded(event, offset, topic="videos") for offset, event in enumerate(events)]
        found: Video = folded(catalog.PROJECTION, log)["videos"][(VIDEO_ID,)]
        return found

    assert row(upload).visibility == "public"
    assert row(upload.model_copy(update={"visibility": "unlisted"})).visibility == "unlisted"
    kept = row(upload, private, VideoArchived(video_id=VIDEO_ID))
    assert (kept.visibility, kept.roles, kept.users, kept.archived) == ("private", ("viewer",), ("anna",), True)
    again = row(upload, private, VideoVisibilityChanged(video_id=VIDEO_ID, visibility="public"))
    assert (again.visibility, again.roles, again.users) == ("public", (), ())

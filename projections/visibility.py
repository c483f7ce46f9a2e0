"""The rule about who may watch a video and who finds it in lists. Pure; every app asks here.

The condition `listable` in `catalog.sql` repeats `may_list` for pages; a test compares them.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from events.people import Role
from events.videos import Visibility

HIDDEN = ("uploading", "abandoned", "purged")
"""States in which a video has nothing to show, not even progress."""


class Viewer(NamedTuple):
    """A person at a player. `everything`: they have the right to read everything."""

    user_id: str | None = None
    role: Role | None = None
    everything: bool = False


NOBODY = Viewer()
"""A viewer who has not logged in."""


class Watched(Protocol):
    """The part of a video that decides who may watch it; a row of the catalog has it."""

    @property
    def status(self) -> str: ...
    @property
    def archived(self) -> bool: ...
    @property
    def visibility(self) -> Visibility: ...
    @property
    def roles(self) -> Collection[Role]: ...
    @property
    def users(self) -> Collection[str]: ...


def may_watch(video: Watched, viewer: Viewer) -> bool:
    """Return whether a viewer who has a video's address may watch it."""
    if video.archived or video.status in HIDDEN:
        return False
    return video.visibility != "private" or viewer.everything or viewer.role in video.roles or viewer.user_id in video.users


def may_list(video: Watched, viewer: Viewer) -> bool:
    """Return whether lists, searches and feeds show a video to a viewer."""
    return video.status == "ready" and video.visibility != "unlisted" and may_watch(video, viewer)

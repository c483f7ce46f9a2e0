"""Viewers of whom somebody asked to be forgotten: topic `viewers`, key = viewer_id."""

from pydantic import Field

from events.envelope import Event


class ViewerForgotten(Event, type="kinolog.viewer.forgotten.v1"):
    """The key behind a viewer's id was deleted: nobody can say any more whose events on topic `streams` these are."""

    viewer_id: str
    reason: str = Field("", max_length=500)


ViewerEvent = ViewerForgotten

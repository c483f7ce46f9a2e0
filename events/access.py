"""Events about the doors of an installation: who was not let in."""

from events.envelope import Event


class AccessRefused(Event, type="kinolog.access.refused.v1"):
    """An app refused requests for lack of a good secret or of a right (401, 403), or beyond a limit (429).

    `count` is the number of similar requests since the last event about them; there is at most one event a minute. `route`
    is a template, `any` in an event about several routes, and `unknown` where a limit came before the route.
    """

    app: str
    method: str
    route: str
    status: int
    reason: str
    count: int = 1


AccessEvent = AccessRefused

"""The right that each route of the admin app asks for. A route that is not here does not start.

Roles have rights: `projections.people.rights`. The public app is for anybody, and `may_watch` decides about each video; the worker
app asks for a worker's key, and the telemetry app for nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from starlette.routing import BaseRoute

from api.limits import flat
from events.people import Right

Door = Right | Literal["open", "metrics", "session"]
"""`open` is for anybody: health, and the ways to log in. `metrics` asks for the token of metrics, away from this machine. `session`
is for a person who has logged in, and for no token."""

ROUTES: Mapping[str, Door] = {
    "GET /openapi.json": "open",
    "GET /health": "open",
    "GET /ready": "open",
    "GET /metrics": "metrics",
    "GET /join": "open",
    "GET /join.js": "open",
    "GET /join.css": "open",
    # uploads and videos
    "POST /api/uploads": "upload",
    "GET /api/uploads/{video_id}": "upload",
    "POST /api/uploads/{video_id}/parts": "upload",
    "POST /api/uploads/{video_id}/complete": "upload",
    "DELETE /api/uploads/{video_id}": "upload",
    "POST /api/videos": "upload",
    "GET /api/videos": "read",
    "GET /api/videos/{which}": "read",
    "GET /api/videos/{which}/progress": "read",
    "GET /api/videos/{which}/timeline": "read",
    "PATCH /api/videos/{which}": "edit",
    "POST /api/videos/{which}/archive": "edit",
    "POST /api/videos/{which}/restore": "edit",
    "POST /api/videos/{which}/retry": "operate",
    "DELETE /api/videos/{which}": "administer",
    # work
    "GET /api/jobs": "read",
    "GET /api/queue": "read",
    "GET /api/jobs/{job_id}": "read",
    "POST /api/jobs/{job_id}/cancel": "operate",
    "POST /api/jobs/{job_id}/retry": "operate",
    "POST /api/jobs/{job_id}/requeue": "operate",
    "POST /api/jobs/retry": "operate",
    "GET /api/workers": "read",
    "POST /api/workers/{worker_id}/pause": "operate",
    "POST /api/workers/{worker_id}/resume": "operate",
    "POST /api/pools/{pool}/pause": "operate",
    "POST /api/pools/{pool}/resume": "operate",
    "GET /api/failures": "read",
    "GET /api/failures/report": "read",
    "GET /api/failures/{failure_id}": "read",
    "POST /api/failures/{failure_id}/resolve": "operate",
    "POST /api/failures/{failure_id}/rerun": "operate",
    "POST /api/failures/{failure_id}/reruns": "operate",
    "GET /api/insights": "read",
    "GET /api/v1/analytics/overview": "read",
    "GET /api/v1/analytics/streams": "read",
    "GET /api/v1/analytics/streams/breakdown": "read",
    "GET /api/v1/analytics/watch-activity": "read",
    "GET /api/v1/analytics/users/activity": "read",
    "GET /api/v1/analytics/trends": "read",
    "POST /api/v1/analytics/rollup": "operate",
    "GET /api/v1/analytics/transcodes": "read",
    "GET /api/v1/analytics/storage": "read",
    "GET /api/v1/analytics/library-health": "read",
    "GET /api/v1/analytics/system": "read",
    "GET /api/v1/analytics/system/history": "read",
    "GET /api/hosts": "read",
    "GET /api/hosts/{host}/history": "read",
    "GET /api/events/progress": "read",
    "GET /api/events/workers": "read",
    "POST /api/worker-keys/join-tokens": "administer",
    "GET /api/worker-keys": "administer",
    "POST /api/worker-keys/{which}/revoke": "administer",
    "GET /api/audit": "audit",
    # one's own account
    "POST /api/auth/login": "open",
    "POST /api/auth/accept": "open",
    "GET /api/auth/check": "open",
    "GET /api/auth/csrf-token": "session",
    "POST /api/auth/logout": "session",
    "POST /api/auth/password": "session",
    "GET /api/auth/sessions": "session",
    "POST /api/auth/sessions/{session_id}/end": "session",
    "GET /api/auth/factors": "session",
    "POST /api/auth/totp": "session",
    "POST /api/auth/totp/verify": "session",
    "POST /api/auth/totp/recovery-codes": "session",
    "POST /api/auth/totp/remove": "session",
    "POST /api/auth/passkeys/registration": "session",
    "POST /api/auth/passkeys": "session",
    "POST /api/auth/passkeys/{passkey_id}/remove": "session",
    "POST /api/auth/passkeys/login/options": "open",
    "POST /api/auth/passkeys/login": "open",
    "GET /api/auth/openid": "open",
    "GET /api/auth/openid/{provider}": "open",
    "GET /api/auth/openid/{provider}/callback": "open",
    "POST /api/auth/openid/{provider}/backchannel-logout": "open",
    "GET /api/auth/openid/{provider}/logout": "open",
    # settings
    "GET /api/settings": "read",
    "GET /api/settings/{name}": "read",
    "GET /api/settings/{name}/history": "audit",
    "PUT /api/settings/{name}": "administer",
    "DELETE /api/settings/{name}": "administer",
    "POST /api/settings/{name}/undo": "administer",
    # webhooks
    "GET /api/webhooks": "administer",
    "GET /api/webhooks/stats": "administer",
    "POST /api/webhooks": "administer",
    "GET /api/webhooks/{endpoint_id}": "administer",
    "PUT /api/webhooks/{endpoint_id}": "administer",
    "DELETE /api/webhooks/{endpoint_id}": "administer",
    "POST /api/webhooks/{endpoint_id}/rotate": "administer",
    "POST /api/webhooks/{endpoint_id}/test": "administer",
    "POST /api/webhooks/{endpoint_id}/redeliver": "administer",
    "GET /api/webhooks/{endpoint_id}/deliveries": "administer",
    "GET /api/webhooks/{endpoint_id}/deliveries/{delivery_id}": "administer",
    "POST /api/webhooks/{endpoint_id}/deliveries/{delivery_id}/retry": "administer",
    # people
    "GET /api/users": "administer",
    "POST /api/users/invitations": "administer",
    "PATCH /api/users/{user_id}": "administer",
    "DELETE /api/users/{user_id}": "administer",
    "POST /api/users/{user_id}/reset": "administer",
    "POST /api/users/{user_id}/reset-factors": "administer",
    "DELETE /api/viewers/{which}": "administer",
    "GET /api/tokens": "self",
    "POST /api/tokens": "self",
    "POST /api/tokens/{token_id}/revoke": "self",
}


class RouteWithoutRight(Exception):
    """A route is not in the table of rights."""


def doors(routes: Iterable[BaseRoute]) -> Mapping[str, Door]:
    """Return the right of each route, by method and path. Raises RouteWithoutRight."""
    found: dict[str, Door] = {}
    for route in flat(routes):
        for method in sorted(getattr(route, "methods", None) or ()):
            name = f"{method} {getattr(route, 'path', '')}"
            if method == "HEAD" and f"GET {getattr(route, 'path', '')}" in ROUTES:
                continue
            if name not in ROUTES:
                raise RouteWithoutRight(f"{name} has no right: add a line to api/rights.py")
            found[name] = ROUTES[name]
    return found

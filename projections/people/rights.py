"""Rights and roles, in one table. Pure.

A right is what a route asks for; a role is a set of rights; a token has some of its maker's rights. Which route asks for which
right is in `api.rights`.
"""

from collections.abc import Mapping
from typing import get_args

from events.people import Right, Role

RIGHTS: Mapping[Right, str] = {
    "self": "look after one's own account: password, second factor, sessions, tokens",
    "read": "see all videos, jobs, workers, failures and statistics, also of the past",
    "audit": "see who did what",
    "query": "ask the log and the projections by SQL and replays",
    "upload": "add videos",
    "edit": "change, archive and restore videos",
    "operate": "run jobs again, pause and prioritise them; drain workers; resolve failures",
    "administer": "administer people, tokens, keys of workers and settings; purge videos",
}
"""Each right, and what it allows."""

ROLES: Mapping[Role, frozenset[Right]] = {
    "viewer": frozenset({"self"}),
    "analyst": frozenset({"self", "read", "audit", "query"}),
    "operator": frozenset({"self", "read", "upload", "edit", "operate"}),
    "administrator": frozenset(get_args(Right)),
}
"""Rights of each role. An analyst reads everything and changes nothing."""


def rights_of(role: Role) -> frozenset[Right]:
    """Return the rights of a role."""
    return ROLES[role]

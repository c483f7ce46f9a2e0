"""The cause of an event: the envelope's `actor`, a CloudEvents extension. Events of older versions have none.

`user:ID` and `token:ID` are people and their scripts, `worker:ID` a worker, `node` any anonymous encoder, `system:NAME` a program.
The log has no names and no addresses of people: `ID` is a random id, and `client` a keyed hash of the address.
"""

import re
from collections.abc import Sequence

from events.envelope import Envelope, Event

NODE = "node"
COMMAND_LINE = "system:cli"
"""The operator's command line, for what it appends itself; its requests to the admin app are those of a token."""
BOOTSTRAP = "token:bootstrap"
"""The administrator's token of the first minute: `var/tokens/admin`."""
_ACTOR = re.compile(r"node|(?:user|token|worker|system):[0-9A-Za-z._-]{1,200}")
_PERSON = ("user:", "token:")


def is_actor(text: str) -> bool:
    """Return whether a text names an actor."""
    return _ACTOR.fullmatch(text) is not None


def is_person(actor: str | None) -> bool:
    """Return whether a person, or a script in a person's name, caused the event."""
    return actor is not None and actor.startswith(_PERSON)


def signed(envelopes: Sequence[Envelope[Event]], actor: str, client: str | None = None) -> list[Envelope[Event]]:
    """Return events with their actor, and the keyed hash of the address that the request came from."""
    return [envelope._replace(actor=actor, client=client) for envelope in envelopes]

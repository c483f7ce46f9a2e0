"""People and their tokens: topic `people`, key = user_id.

The log knows a person by a random id. Names, hashes and secrets lie in tables outside it (ADR 32), so that a person can be
forgotten.
"""

from typing import Literal

from pydantic import AwareDatetime, Field

from events.envelope import Event

BOOTSTRAP_ID = "bootstrap"
"""Stands for the holder of the file token, who is no person."""
Role = Literal["viewer", "analyst", "operator", "administrator"]
Right = Literal["self", "read", "upload", "edit", "operate", "audit", "query", "administer"]
Factor = Literal["totp", "recovery_codes", "recovery_code", "passkey"]


class FactorAdded(Event, type="kinolog.person.factor-added.v1"):
    """A person can prove who they are in one more way. `factor_id` names a passkey."""

    user_id: str
    factor: Factor
    factor_id: str | None = None


class FactorRemoved(Event, type="kinolog.person.factor-removed.v1"):
    """A way to prove who a person is has ended: removed by them, reset by an administrator, or a recovery code was used."""

    user_id: str
    factor: Factor
    because: Literal["removed", "reset", "used"]
    factor_id: str | None = None


class ProviderLinked(Event, type="kinolog.person.provider-linked.v1"):
    """A person's account at a provider of logins is theirs from now on. The provider's name for them is not on the log."""

    user_id: str
    provider: str


class UserCreated(Event, type="kinolog.person.created.v1"):
    """A person has an account from now on."""

    user_id: str
    role: Role


class RoleChanged(Event, type="kinolog.person.role-changed.v1"):
    """A person has another role; their sessions end."""

    user_id: str
    role: Role


class UserDisabled(Event, type="kinolog.person.disabled.v1"):
    """A person can no longer log in; their sessions end, and their tokens are refused until they are enabled."""

    user_id: str
    reason: str = Field("", max_length=500)


class UserEnabled(Event, type="kinolog.person.enabled.v1"):
    """A disabled person can log in again."""

    user_id: str


class UserDeleted(Event, type="kinolog.person.deleted.v1"):
    """A person is gone for good: name and secrets are deleted, the id stays as a pseudonym."""

    user_id: str


class PasswordChanged(Event, type="kinolog.person.password-changed.v1"):
    """A person has another password; their other sessions end."""

    user_id: str


class InvitationMade(Event, type="kinolog.person.invitation-made.v1"):
    """A link lets its holder make this account, or give it a new password, once."""

    invitation_id: str
    purpose: Literal["setup", "invitation", "reset"]
    expires_at: AwareDatetime
    user_id: str
    role: Role | None = None


class SessionOpened(Event, type="kinolog.person.session-opened.v1"):
    """A person has logged in. `how` is `password`, `password+totp`, `passkey`, `openid:PROVIDER` or `invitation`."""

    session_id: str
    user_id: str
    how: str = Field(max_length=100)
    expires_at: AwareDatetime


class SessionEnded(Event, type="kinolog.person.session-ended.v1"):
    """A session is over before its time."""

    session_id: str
    user_id: str
    because: Literal["logout", "ended", "idle", "rotated"]


class TokenMade(Event, type="kinolog.person.token-made.v1"):
    """A script may act with these rights, as far as its maker has them. The file token makes tokens as `bootstrap`."""

    token_id: str
    user_id: str
    name: str = Field(max_length=100)
    rights: tuple[Right, ...]
    expires_at: AwareDatetime | None = None


class TokenRevoked(Event, type="kinolog.person.token-revoked.v1"):
    """A token is refused from now on."""

    token_id: str
    user_id: str


PersonEvent = (
    FactorAdded
    | FactorRemoved
    | ProviderLinked
    | UserCreated
    | RoleChanged
    | UserDisabled
    | UserEnabled
    | UserDeleted
    | PasswordChanged
    | InvitationMade
    | SessionOpened
    | SessionEnded
    | TokenMade
    | TokenRevoked
)

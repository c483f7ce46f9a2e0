"""People: topic `people`, key = user_id."""

from typing import Literal

from events.envelope import Event

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

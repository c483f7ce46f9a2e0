"""Everybody who may come in now, in memory: the fold of topic `people` that each app follows. Pure but for its own state.

An app asks at each request, so the answer costs a look into dictionaries. A person who was put out at a position is out for every
question after it, whatever else the log has: a deleted person never returns, an ended session or token stays ended. Their ids are
kept only until they would have expired.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from events.actors import BOOTSTRAP
from events.envelope import Recorded
from events.people import (
    BOOTSTRAP_ID,
    FactorAdded,
    FactorRemoved,
    InvitationMade,
    PasswordChanged,
    PersonEvent,
    ProviderLinked,
    Right,
    Role,
    RoleChanged,
    SessionEnded,
    SessionOpened,
    TokenMade,
    TokenRevoked,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from projections.people.rights import rights_of

SESSION_LIFE_MAX = timedelta(days=366)
"""The longest life of a session that the settings allow."""
SWEPT_MIN = 1_000


@dataclass
class User:
    """A person. `deleted` is for good."""

    role: Role
    disabled: bool = False
    deleted: bool = False

    @property
    def out(self) -> bool:
        """Whether this person may not come in."""
        return self.disabled or self.deleted


@dataclass(frozen=True)
class Session:
    """A login that has not ended."""

    user_id: str
    how: str
    opened_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Token:
    """A script's token that was not revoked."""

    name: str
    rights: frozenset[Right]
    made_at: datetime
    user_id: str
    expires_at: datetime | None = None


class Directory:
    """Users, sessions and tokens at a position of the log."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.sessions: dict[str, Session] = {}
        self.tokens: dict[str, Token] = {}
        self._ended: dict[str, datetime] = {}
        self._revoked: dict[str, datetime | None] = {}
        """Ids of sessions and of tokens that are over, with the time of their expiry: until then their beginning may come again."""
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._swept_at = SWEPT_MIN
        self._sessions_of: defaultdict[str, set[str]] = defaultdict(set)

    # --- asking -----------------------------------------------------------------------------------------------------

    def of_session(self, session_id: str, now: datetime) -> tuple[str, Role] | None:
        """Return the person of a session, and their role; None when it is over."""
        session = self.sessions.get(session_id)
        if session is None or now >= session.expires_at:
            return None
        user = self.users.get(session.user_id)
        return None if user is None or user.out else (session.user_id, user.role)

    def of_token(self, token_id: str, now: datetime) -> frozenset[Right] | None:
        """Return the rights of a token, at most those that its maker has now; None when it is refused."""
        token = self.tokens.get(token_id)
        if token is None or (token.expires_at is not None and now >= token.expires_at):
            return None
        if token.user_id == BOOTSTRAP_ID:
            return token.rights
        user = self.users.get(token.user_id)
        return None if user is None or user.out else token.rights & rights_of(user.role)

    def rights_of_actor(self, actor: str, now: datetime, session_id: str | None = None) -> frozenset[Right]:
        """Return the present rights of an actor (`events.actors`): a person, in a session or without one, or a token."""
        kind, _, id_ = actor.partition(":")
        if actor == BOOTSTRAP:
            return rights_of("administrator")
        if kind == "token":
            return self.of_token(id_, now) or frozenset()
        if session_id is not None and self.of_session(session_id, now) is None:
            return frozenset()
        user = self.users.get(id_) if kind == "user" else None
        return frozenset() if user is None or user.out else rights_of(user.role)

    def sessions_of(self, user_id: str, now: datetime) -> Iterator[tuple[str, Session]]:
        """Yield a person's sessions that are not over."""
        for session_id in self._sessions_of[user_id]:
            if now < (session := self.sessions[session_id]).expires_at:
                yield session_id, session

    def administrators(self) -> set[str]:
        """Return the ids of people who can log in and administer."""
        return {user_id for user_id, user in self.users.items() if user.role == "administrator" and not user.out}

    # --- folding ----------------------------------------------------------------------------------------------------

    def take(self, recorded: Recorded[PersonEvent]) -> None:
        """Fold one event; the same event again changes nothing."""
        event, time = recorded.envelope.data, recorded.envelope.time
        self._latest = max(self._latest, time)
        match event:
            case UserCreated():
                self.users.setdefault(event.user_id, User(event.role))
            case RoleChanged() | UserDisabled() | UserEnabled() | UserDeleted() | PasswordChanged():
                self._changed(event)
            case SessionOpened():
                if event.session_id not in self._ended and event.expires_at > self._latest:
                    self.sessions[event.session_id] = Session(event.user_id, event.how, time, event.expires_at)
                    self._sessions_of[event.user_id].add(event.session_id)
                    self._sweep()
            case SessionEnded():
                self._end(event.session_id)
            case TokenMade():
                if event.token_id not in self._revoked and (event.expires_at is None or event.expires_at > self._latest):
                    rights = frozenset(event.rights)
                    self.tokens[event.token_id] = Token(event.name, rights, time, event.user_id, event.expires_at)
            case TokenRevoked():
                token = self.tokens.pop(event.token_id, None)
                if token is not None or event.token_id not in self._revoked:
                    self._revoked[event.token_id] = token.expires_at if token else None
            case FactorAdded() | FactorRemoved() | ProviderLinked() | InvitationMade():
                return
            case _:
                assert_never(event)

    def _changed(self, event: RoleChanged | UserDisabled | UserEnabled | UserDeleted | PasswordChanged) -> None:
        user = self.users.get(event.user_id)
        if user is None:
            return
        if isinstance(event, RoleChanged):
            user.role = event.role
        elif isinstance(event, UserDisabled):
            user.disabled = True
        elif isinstance(event, UserEnabled):
            user.disabled = False
        elif isinstance(event, UserDeleted):
            user.deleted = True
        if not isinstance(event, UserEnabled):
            for session_id in [*self._sessions_of[event.user_id]]:
                self._end(session_id)

    def _end(self, session_id: str) -> None:
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._sessions_of[session.user_id].discard(session_id)
        if session is not None or session_id not in self._ended:
            self._ended[session_id] = session.expires_at if session else self._latest + SESSION_LIFE_MAX

    def _sweep(self) -> None:
        """Forget the sessions, and the ids, that have expired by the latest event, whenever their number has doubled."""
        if len(self.sessions) + len(self._ended) + len(self._revoked) < self._swept_at:
            return
        now = self._latest
        for session_id, session in [*self.sessions.items()]:
            if session.expires_at <= now:
                del self.sessions[session_id]
                self._sessions_of[session.user_id].discard(session_id)
        self._ended = {id_: until for id_, until in self._ended.items() if until > now}
        self._revoked = {id_: until for id_, until in self._revoked.items() if until is None or until > now}
        self._swept_at = max(SWEPT_MIN, 2 * (len(self.sessions) + len(self._ended) + len(self._revoked)))


def evolve(directory: Directory, recorded: Recorded[Any]) -> Directory:
    """Fold an event into a directory, for a `projections.folding.follower.Followed`."""
    directory.take(recorded)
    return directory
